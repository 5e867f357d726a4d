"""The grid's leaderboard as one self-contained HTML page."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from itertools import cycle
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from badnet_defense.report.comparison import COLUMNS, shown
from badnet_defense.report.figures import add_legend, new_figure, plain_style
from badnet_defense.report.pages import encoded, sort_key, write_template
from badnet_defense.report.promises import comparison_notes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK, _QUIET = "#222222", "#777777"
_COLOURS = ("#1f5fa8", "#c1440e", "#1b7f5c", "#7b2d8b", "#b8860b", "#444444", "#d1639b", "#20a0b0")
LEAST_RATE = 1e-3


@plain_style()
def write_page(
    path: str | PathLike[str],
    runs: Sequence[dict[str, Any]],
    rows: Sequence[dict[str, Any]],
    sentences: dict[str, str],
    failed: Sequence[tuple[str, str]],
    command: str,
    pictures: Any = (),
) -> None:
    """Writes the page.

    Args:
        path: the `.html` file.
        runs: results of the grid.
        rows: their leaderboard.
        sentences: {net: verdict}.
        failed: [(name of a run, what was wrong)].
        command: what was called, as text.
        pictures: {net: bytes of a PNG of its scan's triggers}.
    """
    notes = comparison_notes(runs)
    nets = [
        {
            "name": net,
            "verdict": verdict,
            "notes": notes[net],
            "curves": [(name, png(figure)) for name, figure in _figures(net, runs)],
            "triggers": encoded(dict(pictures).get(net)),
            "examples": _examples(net, runs),
            "run": next(run for run in runs if run["name"] == net),
        }
        for net, verdict in sentences.items()
    ]
    write_template(
        path,
        "comparison.html.j2",
        nets=nets,
        columns=COLUMNS,
        rows=[
            [(shown(row, key), sort_key(row[key]), _interval(row, key)) for key in COLUMNS]
            for row in rows
        ],
        failed=failed,
        command=command,
        versions=runs[0]["versions"] if runs else {},
        code=runs[0].get("code") if runs else None,
        seeds=sorted({run["seed"] for run in runs}),
    )


def _interval(row: dict[str, Any], key: str) -> str:
    ends = row.get(f"{key}_interval")
    return "" if ends is None else "–".join(shown({key: end}, key) for end in ends)


def _figures(net: str | None, runs: Sequence[dict[str, Any]]) -> Iterator[Any]:
    """[(title, figure)] of a net; of several seeds' runs each curve is the first seed's."""
    own = sorted((run for run in runs if run["name"] == net), key=lambda run: run["seed"])
    prunings: dict[str, Any] = {}
    rocs: dict[str, Any] = {}
    for run in own:
        if run["pruning"]:
            prunings.setdefault(run["repair"], run["pruning"])
        for name, figures in run["triggers"].items():
            if "roc" in figures:
                curves = rocs.setdefault(run["detector"], {})
                curves.setdefault(f"{run['repair']}: {name}", (figures["roc"], run, figures))
    first = ", first seed" if len({run["seed"] for run in own}) > 1 else ""
    if prunings:
        yield f"Clean accuracy over pruned channels{first}", pruning_figure(prunings)
    for detector, curves in rocs.items():
        yield f"Detector {detector}: detection rate over FPR{first}", roc_figure(curves)


def pruning_figure(curves: dict[str, Any]) -> Figure:
    """Accuracy over pruned channels, for each way of ranking."""
    figure = new_figure((6, 3.6))
    axes = figure.subplots()
    for (name, pruning), colour in zip(curves.items(), cycle(_COLOURS)):
        percent = [100 * share for share in pruning["curve"]]
        axes.plot(percent, color=colour, label=name)
        axes.plot(pruning["removed"], percent[pruning["removed"]], "o", color=colour)
    axes.set_ylim(0, 103)
    axes.set_xlabel("channels pruned", color=_INK)
    axes.set_ylabel("clean accuracy (%)", color=_INK)
    _dress(axes)
    return figure


def roc_figure(curves: dict[str, Any]) -> Figure:
    """Detection rate over false-positive rate, on a logarithmic scale, with the chosen points."""
    figure = new_figure((6, 3.6))
    axes = figure.subplots()
    for (name, (roc, run, figures)), colour in zip(curves.items(), cycle(_COLOURS)):
        rates = 100 * np.maximum(roc["false_positive_rate"], LEAST_RATE)
        axes.step(rates, 100 * np.array(roc["flagged"]), where="post", color=colour, label=name)
        chosen = max(run["clean"]["false_positive_rate"], LEAST_RATE)
        axes.plot(100 * chosen, 100 * figures["flagged"], "o", color=colour)
    for rate in (1, 5):
        axes.axvline(rate, color=_QUIET, lw=0.8, ls="--")
    axes.set_xscale("log")
    axes.set_xlim(100 * LEAST_RATE, 100)
    axes.xaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
    axes.set_ylim(0, 103)
    axes.set_xlabel("false-positive rate (%)", color=_INK)
    axes.set_ylabel("detection rate (%)", color=_INK)
    _dress(axes)
    return figure


def _dress(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    add_legend(axes, fontsize=7, loc="best")


def png(figure: Figure) -> Any:
    """A figure as text for a `data:` address."""
    with io.BytesIO() as buffer:
        figure.savefig(buffer, format="png", metadata={"Software": None})
        return encoded(buffer.getvalue())


def _examples(net: str | None, runs: Sequence[dict[str, Any]]) -> Any:
    """The examples of the net's run with the most stages."""
    own = [run for run in runs if run["name"] == net]
    return max(own, key=lambda run: len(run["examples"][0]["answers"]))["examples"]
