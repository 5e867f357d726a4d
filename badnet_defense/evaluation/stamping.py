"""A mask and a pattern laid over pictures."""

import numpy as np


def stamp(pictures, mask, pattern):
    """Pictures that carry a trigger: the pattern where the mask is 1, the picture where it is 0.

    Args:
        pictures: (n, h, w, c), pixels 0-255.
        mask: (h, w, 1) in [0, 1].
        pattern: (h, w, c) in [0, 1].

    Returns:
        (n, h, w, c) `float32`, 0-255.
    """
    mask, pattern = np.float32(mask), np.float32(pattern)
    return pictures * (1 - mask) + 255 * mask * pattern
