"""Whether the shapes inside a net fit, and fit into memory."""

import math

from badnet_defense.errors import TooLargeError, UnsafeNetError
from badnet_defense.nets.spec import call_shapes

MOST_VALUES = 2**26
"""Values that a layer may make of one picture (256 MB); honest nets stay far below."""


def check_shapes(spec):
    """Refuses a net whose layers don't fit, whose results are too large, or that is no classifier.

    Raises:
        ValueError: a layer cannot follow another.
        TooLargeError, UnsafeNetError: the others.
    """
    shapes = call_shapes(spec)
    largest = max(shapes, key=math.prod)
    if math.prod(largest) > MOST_VALUES:
        raise TooLargeError(
            f"a layer's result has the shape {largest}; that takes too much memory."
        )
    if len(shapes[spec.output]) != 1:
        raise UnsafeNetError(
            f"its output has the shape {shapes[spec.output]}; expected (classes,)."
        )
