"""How good a detector is, in plots: its ROC curve, and how scores are spread."""

from __future__ import annotations

from itertools import cycle
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from badnet_defense.errors import one_line
from badnet_defense.report.figures import TITLE, add_legend, new_figure, plain_style, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK, _CLEAN, _QUIET = "#222222", "#9bb7d4", "#777777"
_POISONED = ("#c1440e", "#7b2d8b", "#1b7f5c", "#b8860b")
LEAST_RATE = 1e-4
FEW = 20
"""Fewer images than this are marked one by one."""


@plain_style()
def plot_roc(
    path: str | PathLike[str], curves: dict[str, Any], about: Any, *, net: str | None
) -> None:
    """Draws the ROC curve with the chosen point and those at 1 % and 5 % FPR, as a PNG.

    Args:
        path: the `.png` file to write.
        curves: {trigger: ((false-positive rates, detection rates), (rate, detection) as chosen)}.
        about: the detector's figures: `name`, `false_positive_rate`.
        net: the net's name for the title.

    Raises:
        InputError: nothing can be written at `path`.
    """
    figure = new_figure((7, 5))
    axes = figure.subplots()
    for (name, ((rates, shares), point)), colour in zip(curves.items(), cycle(_POISONED)):
        axes.step(np.maximum(rates, LEAST_RATE), shares, where="post", color=colour, label=name)
        axes.plot(max(point[0], LEAST_RATE), point[1], "o", color=colour, ms=7)
        axes.annotate(
            f"chosen: {point[1]:.1%} at {point[0]:.2%}",
            (max(point[0], LEAST_RATE), point[1]),
            (8, -14),
            textcoords="offset points",
            color=_INK,
        )
    for rate in (0.01, 0.05):
        axes.axvline(rate, color=_QUIET, lw=0.8, ls="--")
        axes.annotate(f"{rate:.0%}", (rate, 0.02), (3, 0), textcoords="offset points", color=_QUIET)
    axes.set_xscale("log")
    axes.set_xlim(LEAST_RATE, 1)
    axes.set_ylim(0, 1.03)
    axes.xaxis.set_major_formatter(lambda rate, _: f"{100 * rate:g}")
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}")
    axes.set_xlabel("false-positive rate: clean images flagged (%)", color=_INK)
    axes.set_ylabel("detection rate (%)", color=_INK)
    _finish(figure, axes, about, net, "lower right")
    save_figure(figure, path)


@plain_style()
def plot_scores(
    path: str | PathLike[str],
    clean: Any,
    others: Any,
    about: Any,
    *,
    net: str | None,
) -> None:
    """Draws histograms of the scores, clean against others, with the threshold, as a PNG.

    Args:
        path, net: as for `plot_roc`.
        clean: (n,) scores of clean images.
        others: {name: (m,) scores}, of poisoned images or of those asked about.
        about: the detector's figures: `name`, `score` (what its scores are),
            `false_positive_rate`, `threshold`.

    Raises:
        InputError: nothing can be written at `path`.
    """
    figure = new_figure((7, 4.2))
    axes = figure.subplots()
    every = np.concatenate([clean, *others.values()])
    # Where an answer is not finite, the score is infinite: it stands at the end of the others.
    ends = every[np.isfinite(every)] if np.isfinite(every).any() else np.zeros(1)
    clean = np.clip(clean, ends.min(), ends.max())
    others = {name: np.clip(one, ends.min(), ends.max()) for name, one in others.items()}
    edges = np.linspace(ends.min(), ends.max() + 1e-9, 60)
    groups = {"clean": (clean, _CLEAN)}
    for (name, scores), colour in zip(others.items(), cycle(_POISONED)):
        groups[name] = (scores, colour)
    for name, (scores, colour) in groups.items():
        if len(scores) < FEW:  # shares of so few would tower over the others
            marks: dict[str, Any] = {
                "marker": "v",
                "ls": "none",
                "ms": 9,
                "mec": "white",
                "clip_on": False,
            }
            axes.plot(scores, np.zeros(len(scores)), color=colour, label=name, zorder=3, **marks)
            continue
        weights = np.full(len(scores), 100 / len(scores))
        axes.hist(scores, edges.tolist(), weights=weights, color=colour, alpha=0.7, label=name)
    axes.axvline(about["threshold"], color=_INK, lw=1.2, ls="--")
    axes.annotate(
        "suspicious above",
        (about["threshold"], 0.97),
        (4, 0),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        va="top",
        color=_INK,
    )
    axes.set_xlabel(about["score"], color=_INK)
    axes.set_ylabel("images (%)", color=_INK)
    _finish(figure, axes, about, net, "best")
    save_figure(figure, path)


def _finish(figure: Figure, axes: Any, about: Any, net: str | None, place: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    add_legend(axes, loc=place)
    figure.suptitle(
        f"{one_line(net)}: detector {about['name']!r}, "
        f"{about['false_positive_rate']:.2%} target FPR",
        x=0.02,
        ha="left",
        **TITLE,
    )
