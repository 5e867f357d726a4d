"""The regions of an image that are pasted one by one."""

from __future__ import annotations

import numpy as np

FRACTION, PLACES = 3, 5
"""Each band is a third of the side; five of them overlap by half."""


def bands(shape: tuple[int, ...]) -> np.ndarray:
    """(2 * `PLACES`, h, w, 1) bool: bands across from the top down, then down from the left.

    Args:
        shape: (h, w, ..) of the images.

    Examples:
        >>> [int(mask.sum()) for mask in bands((9, 6, 3))]
        [18, 18, 18, 18, 18, 18, 18, 18, 18, 18]
    """
    masks = np.zeros((2, PLACES, *shape[:2], 1), bool)
    for turn, side in enumerate(shape[:2]):
        wide = max(1, round(side / FRACTION))
        for place, start in enumerate(np.linspace(0, side - wide, PLACES).round().astype(int)):
            np.moveaxis(masks[turn, place], turn, 0)[start : start + wide] = True
    return masks.reshape(-1, *masks.shape[2:])
