"""Whether the shapes inside a net fit, and what running it costs: bounds for nets of strangers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from badnet_defense.errors import TooLargeError, UnsafeNetError
from badnet_defense.nets.layers import SCHEMAS
from badnet_defense.nets.net import Net, call_shapes

MAX_VALUES = 2**26
"""Values that a layer may make of one image (256 MB); honest nets stay far below."""
MAX_TOTAL_VALUES = 2**28
"""Values that all layers may make of one image: a gradient holds them all (1 GB). ResNet152 at
224 pixels makes a quarter of it."""
MAX_MULTIPLICATIONS = 2**37
"""Multiplications that one image may take; VGG19 at 224 pixels takes a seventh of it."""
BYTES_AT_ONCE = 2**29
"""Bytes that the results which stand at one time may take for a whole batch."""
MULTIPLICATIONS_AT_ONCE = 2**38
"""Of a whole batch: a batch ends, and Ctrl-C is heard, within about a minute on two cores."""


@dataclass(frozen=True)
class Cost:
    """What one image takes on its way through a net.

    Attributes:
        multiplications: of all calls.
        together: values that all calls make; a gradient holds them all.
        peak: values that stand at one time where each is dropped once no later call needs it.
    """

    multiplications: int
    together: int
    peak: int


def cost(net: Net) -> Cost:
    """The `Cost` of a net for one image."""
    shapes = call_shapes(net)
    sizes = [math.prod(shape) for shape in shapes]
    last_use = {source: place for place, call in enumerate(net.calls) for source in call.inputs}
    standing, peak, multiplications, together = {0: sizes[0]}, sizes[0], 0, sum(sizes)
    for place, call in enumerate(net.calls[1:], start=1):
        layer, inputs = net.layers[call.layer], [shapes[source] for source in call.inputs]
        kind = SCHEMAS[layer.kind]
        between = kind.intermediate_size(layer.config, inputs)
        multiplications += kind.multiplications(layer.config, inputs)
        together += between
        standing[place] = sizes[place]
        # A step in NumPy takes one more array as large as its result, or as the largest it meets.
        here = max(between, sizes[place], *(sizes[source] for source in call.inputs))
        peak = max(peak, sum(standing.values()) + here)
        for source in {*call.inputs, place}:
            if last_use.get(source, 0) <= place and source != net.output:
                standing.pop(source, None)
    return Cost(multiplications, together, peak)


def images_at_once(net: Net, most: int) -> int:
    """How many images go through a net (`Net`) at once: `most`, or fewer if it is large."""
    found = cost(net)
    fit = min(
        BYTES_AT_ONCE // (4 * found.peak),
        MULTIPLICATIONS_AT_ONCE // max(found.multiplications, 1),
    )
    return max(1, min(most, fit))


def check_shapes(net: Net) -> None:
    """Refuses a net whose layers don't fit, that costs too much to run, or is no classifier.

    Raises:
        ValueError: a layer cannot follow another.
        TooLargeError, UnsafeNetError: the others.
    """
    shapes = call_shapes(net)
    for call, shape in zip(net.calls, shapes, strict=True):
        layer, inputs = net.layers[call.layer], [shapes[place] for place in call.inputs]
        between = SCHEMAS[layer.kind].intermediate_size(layer.config, inputs) if inputs else 0
        if max(math.prod(shape), between) > MAX_VALUES:
            raise TooLargeError(
                f"the result of layer {layer.name!r} has the shape {shape}, or takes {between:,} "
                "values on its way; that takes too much memory."
            )
    found = cost(net)
    if found.together > MAX_TOTAL_VALUES:
        raise TooLargeError(
            f"its layers make {found.together:,} values of one image, expected at most "
            f"{MAX_TOTAL_VALUES:,}; that takes too much memory."
        )
    if found.multiplications > MAX_MULTIPLICATIONS:
        raise TooLargeError(
            f"one image takes {found.multiplications:,} multiplications, expected at most "
            f"{MAX_MULTIPLICATIONS:,}; that takes too long."
        )
    if len(shapes[net.output]) != 1:
        raise UnsafeNetError(f"its output has the shape {shapes[net.output]}; expected (classes,).")
