"""Random shifts, light, rectangles and patterns for tuning pictures."""

import numpy as np

MOST_OPAQUE = 0.3
"""Of a pattern over a picture."""


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


def erased(pictures, share, rng):
    """Copies of which some carry a rectangle of one random colour (Zhong et al., AAAI 2020).

    A net that keeps its answer under any such patch can't hang on one patch of one colour.

    Args:
        pictures: (n, h, w, c), pixels 0-255.
        share: of the pictures that get a rectangle, in [0, 1].
        rng: a NumPy generator.
    """
    count, height, width, channels = pictures.shape
    area = rng.uniform(0.02, 0.25, count) * (rng.uniform(size=count) < share)
    aspect = np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3), count))
    rows = _inside(height, np.sqrt(area * aspect), rng)
    columns = _inside(width, np.sqrt(area / aspect), rng)
    colours = rng.integers(0, 256, (count, 1, 1, channels)).astype(pictures.dtype)
    changed = pictures.copy()
    some = np.flatnonzero(area)
    mask = (rows[some, :, None] & columns[some, None, :])[..., None]
    changed[some] = np.where(mask, colours[some], pictures[some])
    return changed


def patterned(pictures, share, rng):
    """Copies over some of which a faint random mosaic lies.

    A net that keeps its answer under any such pattern can't hang on one that is blended over the
    whole picture (Chen et al. 2017). The mosaics' squares are as large as the whole picture, as
    small as a pixel, or any size between; they cover at most `MOST_OPAQUE`.

    Args:
        pictures: (n, h, w, c), pixels 0-255.
        share: of the pictures that get a pattern, in [0, 1].
        rng: a NumPy generator.
    """
    count, height, width, _ = pictures.shape
    opacity = rng.uniform(0, MOST_OPAQUE, count) * (rng.uniform(size=count) < share)
    size = np.exp(rng.uniform(0, np.log(max(height, width)), count))
    colours = rng.integers(0, 256, pictures.shape, dtype=np.uint8)
    changed = pictures.copy()
    some = np.flatnonzero(opacity)
    size, opacity = size[some, None], opacity[some].astype(np.float32).reshape(-1, 1, 1, 1)
    rows, columns = ((np.arange(length) / size).astype(int) for length in (height, width))
    mosaics = colours[some[:, None, None], rows[:, :, None], columns[:, None, :]]
    below = pictures[some].astype(np.float32)
    changed[some] = np.rint(below + opacity * (mosaics - below)).astype(pictures.dtype)
    return changed


def _inside(length, share, rng):
    """(n, length) True along a random stretch of `share` (n,) of the length."""
    span = np.round(np.minimum(share, 1) * length)
    start = np.floor(rng.uniform(size=len(share)) * (length - span + 1))
    places = np.arange(length)
    return (places >= start[:, None]) & (places < (start + span)[:, None])
