"""Matplotlib figures without a screen: made for a file, written whole or not at all."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import TYPE_CHECKING, Any

from badnet_defense.errors import one_line
from badnet_defense.io.files import atomic_write, file_sha256

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = {"color": "#222222", "fontweight": "bold", "parse_math": False}
"""Of a title; a net's name in it may hold anything, also what would be mathematics."""


_one_at_a_time = threading.RLock()


def load_matplotlib() -> Any:
    """Imports Matplotlib without the `matplotlibrc` of the working folder; gives the module.

    Matplotlib looks there before anywhere else and reads what it finds, whoever put it there.
    """
    if "matplotlib" not in sys.modules and os.path.lexists("matplotlibrc"):
        with _one_at_a_time:
            here = os.getcwd()
            try:
                os.chdir(os.path.dirname(os.path.abspath(__file__)))
                import matplotlib
            finally:
                os.chdir(here)
    import matplotlib

    return matplotlib


@contextmanager
def plain_style() -> Iterator[Any]:
    """Draws as Matplotlib is delivered, whatever settings are in force, one figure at a time.

    A `matplotlibrc` may ask for fonts of LaTeX, which would be started with names of files that
    stand in a title. To be used as a decorator of all that draws.
    """
    matplotlib = load_matplotlib()
    # The backend is not the style's: figures here are made for files alone.
    style = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
    with _one_at_a_time, matplotlib.rc_context({**style, "text.usetex": False}):
        yield


def new_figure(size: tuple[float, float]) -> Figure:
    """A figure of `size` inches, 150 pixels each."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def add_legend(axes: Any, **how: Any) -> None:
    """A legend whose entries may hold names of files: what would be mathematics, or no text."""
    for text in axes.legend(frameon=False, **how).get_texts():
        text.set_text(one_line(text.get_text()))
        text.set_parse_math(False)


def save_figure(figure: Figure, path: str | PathLike[str]) -> str:
    """Writes `figure` as a PNG and gives its SHA-256.

    Raises:
        InputError: nothing can be written at `path`.
    """
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})
        return file_sha256(partial)
