"""A scan in plots: the triggers that stand out most, and all labels' norms."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np

from badnet_defense.errors import one_line
from badnet_defense.report.figures import TITLE, new_figure, plain_style, save_figure
from badnet_defense.report.tables import pass_name

_INK, _BARS, _FLAG, _QUIET = "#222222", "#9bb7d4", "#c1440e", "#777777"
MOST_SHOWN = 12


@plain_style()
def plot_triggers(
    path: str | PathLike[str],
    triggers: dict[int, Any],
    image: np.ndarray,
    result: dict[str, Any],
    *,
    net: str | None = None,
) -> str:
    """Draws mask, pattern, and both on a clean image, a row for each label, as a PNG.

    The labels are those that are flagged, or else those that stand out most.

    Args:
        path: the `.png` file to write.
        triggers: {label: (mask (h, w, 1), pattern (h, w, c), attack success)}, in [0, 1].
        image: (h, w, c) a clean image, 0-255.
        result: the scan's result, for the numbers.
        net: the net's name for the title.

    Returns:
        The file's SHA-256.

    Raises:
        InputError: nothing can be written at `path`.
    """
    shown = (result["flagged"] or result["smallest"])[:MOST_SHOWN]
    figure = new_figure((8, 1.1 + 1.8 * len(shown)))
    most = "" if result["flagged"] else "; the triggers that stand out most"
    figure.suptitle(_title(net, result) + most, x=0.02, ha="left", **TITLE)
    grid = figure.subplots(len(shown), 4, squeeze=False)
    for axes, entry in zip(grid, shown, strict=True):
        mask, pattern, _ = triggers[entry["label"]]
        _row(axes, entry, mask, pattern, image)
    names = ("mask", "pattern", "mask x pattern", "on a clean image")
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(name, color=_INK, fontsize=10)
    return save_figure(figure, path)


def _row(
    axes: Any, entry: dict[str, Any], mask: np.ndarray, pattern: np.ndarray, image: np.ndarray
) -> None:
    stamped = np.clip(image / 255 * (1 - mask) + mask * pattern, 0, 1)
    images = (mask, pattern, mask * pattern, stamped)
    for ax, shown in zip(axes, images, strict=True):
        grey = shown.shape[-1] == 1
        ax.imshow(
            shown[..., 0] if grey else shown,
            cmap="gray" if grey else None,
            vmin=0,
            vmax=1,
            interpolation="nearest",
        )
        ax.set_xticks([])
        ax.set_yticks([])
    axes[0].set_ylabel(
        f"label {entry['label']}\nL1 {entry['l1']:.1f} pixels\n"
        f"index {entry['anomaly_index']:.1f}\nsuccess {entry['attack_success']:.1%}",
        rotation=0,
        ha="right",
        va="center",
        color=_INK,
    )


@plain_style()
def plot_norms(
    path: str | PathLike[str], result: dict[str, Any], *, net: str | None = None
) -> None:
    """Draws the histogram of all labels' norms in each pass, as a PNG.

    The labels that are flagged, or else those that stand out most, are named.

    Args:
        path: the `.png` file to write.
        result: the scan's result.
        net: the net's name for the title.

    Raises:
        InputError: nothing can be written at `path`.
    """
    passes = result["passes"]
    figure = new_figure((8, 0.5 + 3 * len(passes)))
    panels = figure.subplots(len(passes), sharex=True)
    norms = [_norms(one) for one in passes]
    low, high = min(one.min() for one in norms), max(one.max() for one in norms)
    edges = np.geomspace(low * 0.8, high * 1.1, 50)
    for axes, one, here in zip(panels, passes, norms, strict=True):
        _histogram(axes, one, here, edges)
        named = result["flagged"] or result["smallest"]
        colour = _FLAG if result["flagged"] else _QUIET
        _name(axes, [entry for entry in named if entry["pass"] == one["name"]], colour)
    panels[0].set_xscale("log")
    panels[0].xaxis.set_major_formatter("{x:g}")
    figure.suptitle(_title(net, result), x=0.02, ha="left", **TITLE)
    panels[-1].set_xlabel("L1 norm of the inverted trigger's mask (pixels)", color=_INK)
    figure.legend(
        *panels[-1].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3
    )
    save_figure(figure, path)


def _norms(one: dict[str, Any]) -> np.ndarray:
    return np.maximum([entry["l1"] for entry in one["all"]], 0.1)


def _histogram(axes: Any, one: dict[str, Any], norms: np.ndarray, edges: np.ndarray) -> None:
    """How many labels have which norm in a pass."""
    stopped = np.array([entry["stopped_early"] for entry in one["all"]])
    axes.hist(
        [norms[~stopped], norms[stopped]],
        edges,
        stacked=True,
        color=[_BARS, "#dfe6ee"],
        label=["full optimisation", "stopped early (lower bound)"],
    )
    axes.axvline(one["median"], color=_QUIET, lw=1, ls="--", label="median")
    axes.set_title(pass_name(one), loc="left", color=_INK, fontsize=10)
    axes.set_ylabel("labels", color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.get_major_locator().set_params(integer=True)


def _name(axes: Any, entries: Sequence[dict[str, Any]], colour: str) -> None:
    """Names the labels that stand out most in this pass."""
    top = axes.get_ylim()[1]
    for place, entry in enumerate(entries[:MOST_SHOWN]):
        axes.annotate(
            f"label {entry['label']}",
            (entry["l1"], 0),
            (entry["l1"], top * (0.9 - 0.12 * (place % 7))),
            color=colour,
            fontweight="bold",
            ha="center",
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.8},
        )


def _title(net: str | None, result: dict[str, Any]) -> str:
    labels = ", ".join(str(entry["label"]) for entry in result["flagged"][:MOST_SHOWN])
    subject = f"{one_line(net)}: " if net else ""
    told = result["verdict"]
    if told != "cannot be judged":
        told += f", {len(result['flagged'])} of {result['labels']} labels flagged"
    return f"{subject}{told}" + (f" ({labels})" if labels else "")
