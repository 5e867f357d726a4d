"""Images in a net's range, inside a compiled graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from badnet_defense.nets.input_range import InputRange


def scaled_images(images: Any, input_range: InputRange) -> Any:
    """`uint8` or `float32` images, 0-255, as a `float32` tensor in the net's range.

    What `InputRange.scale` does with arrays, done in the graph: a batch of bytes is a quarter of
    what a batch of floats is.
    """
    from keras import ops

    floats = ops.cast(images, "float32")
    return floats * np.float32(input_range.multiplier) + np.float32(input_range.low)
