"""Results as plots."""

from __future__ import annotations

from os import PathLike
from typing import Any

from badnet_defense.errors import one_line
from badnet_defense.report.figures import TITLE, new_figure, plain_style, save_figure

_INK, _FAINT, _CURVE, _KEPT, _LIMIT = "#222222", "#d9d9d9", "#1f5fa8", "#c1440e", "#777777"


@plain_style()
def plot_pruning_curve(
    path: str | PathLike[str], pruning: dict[str, Any], *, net: str | None = None
) -> None:
    """Draws accuracy over the number of pruned channels as a PNG, 1200x750 pixels.

    Args:
        path: the `.png` file to write.
        pruning: a result's `pruning` block: `layer`, `channels` (C), `removed` (the point that was
            kept), `max_accuracy_drop` (fraction, or None where a fixed share was pruned) and
            `curve`, accuracies (fractions) after 0, 1, .. channels.
        net: the net's name for the title.

    Raises:
        InputError: nothing can be written at `path`.
    """
    figure = new_figure((8, 5))
    axes = figure.subplots()
    percent = [100 * accuracy for accuracy in pruning["curve"]]
    _draw_limit(axes, percent[0], pruning["max_accuracy_drop"])
    axes.step(range(len(percent)), percent, where="post", color=_CURVE, lw=1.2, alpha=0.4)
    axes.plot(percent, "o", color=_CURVE, ms=3.5)
    _mark_kept(axes, percent, pruning["removed"], pruning["channels"])
    _dress(axes, pruning, net)
    save_figure(figure, path)


def _draw_limit(axes: Any, start: Any, drop: Any) -> None:
    """The dashed line below which accuracy may not fall."""
    if drop is None:
        return
    limit = start - 100 * drop
    axes.axhline(limit, color=_LIMIT, lw=1, ls="--")
    axes.annotate(
        f"allowed drop: {100 * drop:g} points, to {limit:.1f} %",
        (0.012, limit),
        xycoords=("axes fraction", "data"),
        xytext=(0, -5),
        textcoords="offset points",
        va="top",
        color=_LIMIT,
    )


def _mark_kept(axes: Any, percent: Any, removed: Any, channels: Any) -> None:
    """The kept point, with its numbers in the corner that a falling curve leaves free."""
    accuracy = percent[removed]
    late = removed > 0.6 * channels
    axes.axvline(removed, color=_KEPT, lw=1, alpha=0.35)
    axes.plot(removed, accuracy, "o", color=_KEPT, ms=9, mec="white", mew=1.5, zorder=3)
    axes.text(
        0.03 if late else 0.98,
        0.06 if late else 0.86,
        f"kept: {removed} of {channels} channels pruned,\n{accuracy:.1f} % accuracy",
        transform=axes.transAxes,
        ha="left" if late else "right",
        va="bottom" if late else "top",
        color=_KEPT,
        fontweight="bold",
    )


def _dress(axes: Any, pruning: dict[str, Any], net: str | None) -> None:
    """Title, labels, limits and a quiet grid."""
    subject = f"{one_line(net)}: " if net else ""
    axes.set_title(
        f"{subject}pruning the dormant channels of {pruning['layer']}",
        loc="left",
        **TITLE,
    )
    axes.set_xlabel("channels pruned, least active on clean images first", color=_INK)
    axes.set_ylabel("accuracy on clean images (%)", color=_INK)
    axes.set_xlim(-0.015 * pruning["channels"], 1.015 * pruning["channels"])
    axes.set_ylim(0, 105)
    axes.set_yticks(range(0, 101, 20))
    axes.grid(axis="y", color=_FAINT, lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_LIMIT)
    axes.tick_params(colors=_INK, length=3)
