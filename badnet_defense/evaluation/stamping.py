"""A mask and a pattern laid over images."""

from __future__ import annotations

import numpy as np


def stamp(images: np.ndarray, mask: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    """Images that carry a trigger: the pattern where the mask is 1, the image where it is 0.

    Args:
        images: (n, h, w, c), pixels 0-255.
        mask: (h, w, 1) in [0, 1].
        pattern: (h, w, c) in [0, 1].

    Returns:
        (n, h, w, c) `float32`, 0-255.

    Examples:
        >>> import numpy as np
        >>> black, mask = np.zeros((1, 1, 2, 1)), np.array([[[0.0], [0.5]]])
        >>> stamp(black, mask, np.ones((1, 2, 1))).ravel().tolist()
        [0.0, 127.5]
    """
    mask, pattern = np.asarray(mask, np.float32), np.asarray(pattern, np.float32)
    return images * (1 - mask) + 255 * mask * pattern
