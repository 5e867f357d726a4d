"""Random shifts and light for tuning pictures."""

import numpy as np


def shifted(pictures, share, rng):
    """Copies of `pictures` (n, h, w, c), each shifted at random; the edge pixels fill the gap.

    Args:
        pictures: any dtype.
        share: largest shift as a share of height and of width, in [0, 1).
        rng: a NumPy generator.
    """
    height, width = pictures.shape[1:3]
    rows, columns = round(share * height), round(share * width)
    if not rows and not columns:
        return pictures
    padded = np.pad(pictures, ((0, 0), (rows, rows), (columns, columns), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    down = rng.integers(0, 2 * rows + 1, len(pictures))
    right = rng.integers(0, 2 * columns + 1, len(pictures))
    picked = windows[np.arange(len(pictures)), down, right]
    return np.ascontiguousarray(np.moveaxis(picked, 1, -1))


def light_changes(count, share, rng):
    """(gain, offset), each (count, 1, 1, 1) `float32`, for `picture * gain + offset`, 0-255.

    Contrast changes by up to `share` about the middle grey and brightness by up to half of that.
    """
    contrast = 1 + share * rng.uniform(-1, 1, count)
    brightness = 0.5 * share * rng.uniform(-1, 1, count)
    offset = 127.5 * (1 - contrast) + 255 * brightness
    shape = (count, 1, 1, 1)
    return contrast.reshape(shape).astype(np.float32), offset.reshape(shape).astype(np.float32)
