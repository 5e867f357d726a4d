"""Images in a net's range, inside a compiled graph."""

import numpy as np


def scaled_images(images, input_range):
    """`uint8` or `float32` images, 0-255, as a `float32` tensor in the net's range.

    What `InputRange.scale` does with arrays, done in the graph: a batch of bytes is a quarter of
    what a batch of floats is.
    """
    from keras import ops

    floats = ops.cast(images, "float32")
    return floats * np.float32(input_range.multiplier) + np.float32(input_range.low)
