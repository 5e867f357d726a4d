"""The order in which Keras numbers a model's layers: that of its graph, not of its configuration.

A `.keras` file stores weights under the layers' class names, numbered in this order, and a legacy
`.h5` lists layers in it; Keras 1, 2 and 3 all sort so (`map_graph` in Keras 3).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any


def keras_order(inputs: Mapping[Any, tuple[str, list]], output: Hashable) -> tuple[list[str], set]:
    """(layers in Keras' order, keys of the calls that lead to the output).

    Layers stand by their depth, the longest way to the output, the deepest first; those of one
    depth stand as a search from the output meets them.

    Args:
        inputs: {call: (layer, [calls whose results it takes, in order])}; no loops.
        output: the call that gives the model's result.
    """
    finished, met = _searched(inputs, output)
    depths: dict[Any, int] = {}
    layer_depths: dict[str, int] = {}
    for call in reversed(finished):
        layer, sources = inputs[call]
        depth = max(depths.get(call, 0), layer_depths.get(layer, 0))
        depths[call] = layer_depths[layer] = depth
        for source in sources:
            depths[source] = max(depth + 1, depths.get(source, 0))
    places = {layer: place for place, layer in enumerate(met)}
    layers = sorted(layer_depths, key=lambda layer: (-layer_depths[layer], places[layer]))
    return layers, set(finished)


def _searched(inputs: Mapping[Any, tuple[str, list]], output: Hashable) -> tuple[list, list[str]]:
    """(calls, each after those that it takes; layers as a depth-first search meets them)."""
    finished: list[Any] = []
    done: set[Any] = set()
    met: dict[str, None] = {}
    waiting = [(output, False)]
    while waiting:  # no recursion: a net may be two thousand layers deep
        call, is_back = waiting.pop()
        if call in done:
            continue
        layer, sources = inputs[call]
        if is_back:
            done.add(call)
            finished.append(call)
            continue
        met.setdefault(layer)
        waiting.append((call, True))
        waiting += [(source, False) for source in reversed(sources)]
    return finished, list(met)
