"""Whether the shapes inside a net fit, and fit into memory."""

import math

from badnet_defense.errors import TooLargeError, UnsafeNetError
from badnet_defense.nets.kinds import KINDS
from badnet_defense.nets.spec import call_shapes

MOST_VALUES = 2**26
"""Values that a layer may make of one picture (256 MB); honest nets stay far below."""
MOST_TOGETHER = 2**29
"""Values that all layers may make of one picture: a gradient holds them all (2 GB)."""


def check_shapes(spec):
    """Refuses a net whose layers don't fit, whose results are too large, or that is no classifier.

    Raises:
        ValueError: a layer cannot follow another.
        TooLargeError, UnsafeNetError: the others.
    """
    shapes = call_shapes(spec)
    for call, shape in zip(spec.calls, shapes, strict=True):
        layer, inputs = spec.layers[call.layer], [shapes[place] for place in call.inputs]
        between = KINDS[layer.kind].values_between(layer.config, inputs) if inputs else 0
        if max(math.prod(shape), between) > MOST_VALUES:
            raise TooLargeError(
                f"the result of layer {layer.name!r} has the shape {shape}, or takes {between:,} "
                "values on its way; that takes too much memory."
            )
    together = sum(math.prod(shape) for shape in shapes)
    if together > MOST_TOGETHER:
        raise TooLargeError(
            f"its layers make {together:,} values of one picture, expected at most "
            f"{MOST_TOGETHER:,}; that takes too much memory."
        )
    if len(shapes[spec.output]) != 1:
        raise UnsafeNetError(
            f"its output has the shape {shapes[spec.output]}; expected (classes,)."
        )
