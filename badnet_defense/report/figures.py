"""Matplotlib figures without a screen: made for a file, written whole or not at all."""

from badnet_defense.data.files import replace_when_done
from badnet_defense.errors import one_line

TITLE = {"color": "#222222", "fontweight": "bold", "parse_math": False}
"""Of a title; a net's name in it may hold anything, also what would be mathematics."""


def new_figure(size):
    """A figure of `size` inches, 150 pixels each."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def add_legend(axes, **how):
    """A legend whose entries may hold names of files: what would be mathematics, or no text."""
    for text in axes.legend(frameon=False, **how).get_texts():
        text.set_text(one_line(text.get_text()))
        text.set_parse_math(False)


def save_figure(figure, path):
    """Writes `figure` as a PNG; raises `InputError` where nothing can be written at `path`."""
    with replace_when_done(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})
