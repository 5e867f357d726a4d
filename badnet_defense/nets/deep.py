"""Keras models of nets that are deeper than Python lets a function call itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

FRAMES_PER_LAYER = 20
"""Of Python that Keras may take for each layer on its way back through a graph; it takes one."""


@contextmanager
def deep_graphs(layers: int) -> Iterator[None]:
    """Lets Keras search graphs of so many layers, which it does by a function that calls itself."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 1000 + FRAMES_PER_LAYER * layers))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
