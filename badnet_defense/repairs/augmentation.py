"""Augmentation of tuning images: random shifts, brightness and contrast, rectangles, mosaics."""

from __future__ import annotations

import numpy as np

MAX_OPACITY = 0.3
"""Of a mosaic over an image."""


def random_shift(images: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Copies of `images` (n, h, w, c), each shifted at random; the edge pixels fill the gap.

    Args:
        images: any dtype.
        fraction: largest shift as a fraction of height and of width, in [0, 1).
        rng: a NumPy generator.
    """
    height, width = images.shape[1:3]
    rows, columns = round(fraction * height), round(fraction * width)
    if not rows and not columns:
        return images
    padded = np.pad(images, ((0, 0), (rows, rows), (columns, columns), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    down = rng.integers(0, 2 * rows + 1, len(images))
    right = rng.integers(0, 2 * columns + 1, len(images))
    picked = windows[np.arange(len(images)), down, right]
    return np.ascontiguousarray(np.moveaxis(picked, 1, -1))


def draw_brightness_contrast(
    count: int, fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(gain, offset), each (count, 1, 1, 1) `float32`, for `image * gain + offset`, 0-255.

    Contrast changes by up to `fraction` about the middle grey and brightness by up to half of that.
    """
    contrast = 1 + fraction * rng.uniform(-1, 1, count)
    brightness = 0.5 * fraction * rng.uniform(-1, 1, count)
    offset = 127.5 * (1 - contrast) + 255 * brightness
    shape = (count, 1, 1, 1)
    return contrast.reshape(shape).astype(np.float32), offset.reshape(shape).astype(np.float32)


def random_erasing(images: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Copies, some of which carry a rectangle of one random colour (Zhong et al., AAAI 2020).

    A net that keeps its answer under any such patch cannot depend on one patch of one colour.

    Args:
        images: (n, h, w, c), pixels 0-255.
        fraction: of the images that get a rectangle, in [0, 1].
        rng: a NumPy generator.
    """
    count, height, width, channels = images.shape
    area = rng.uniform(0.02, 0.25, count) * (rng.uniform(size=count) < fraction)
    aspect = np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3), count))
    rows = _inside(height, np.sqrt(area * aspect), rng)
    columns = _inside(width, np.sqrt(area / aspect), rng)
    colours = rng.integers(0, 256, (count, 1, 1, channels)).astype(images.dtype)
    changed = images.copy()
    some = np.flatnonzero(area)
    mask = (rows[some, :, None] & columns[some, None, :])[..., None]
    changed[some] = np.where(mask, colours[some], images[some])
    return changed


def random_mosaic(images: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Copies, some of which are overlaid with a faint random mosaic.

    A net that keeps its answer under any such pattern cannot depend on one that is blended over
    the whole image (Chen et al. 2017). The mosaics' squares are of any size from a pixel to the
    whole image; their opacity is at most `MAX_OPACITY`.

    Args:
        images: (n, h, w, c), pixels 0-255.
        fraction: of the images that get a mosaic, in [0, 1].
        rng: a NumPy generator.
    """
    count, (height, width) = len(images), images.shape[1:3]
    opacity = rng.uniform(0, MAX_OPACITY, count) * (rng.uniform(size=count) < fraction)
    size = np.exp(rng.uniform(0, np.log(max(height, width)), count))
    colours = rng.integers(0, 256, images.shape, dtype=np.uint8)
    changed = images.copy()
    some = np.flatnonzero(opacity)
    weight = opacity[some].astype(np.float32).reshape(-1, 1, 1, 1)
    rows, columns = (
        (np.arange(length) / size[some, None]).astype(int) for length in (height, width)
    )
    mosaics = colours[some[:, None, None], rows[:, :, None], columns[:, None, :]]
    below = images[some].astype(np.float32)
    changed[some] = np.rint(below + weight * (mosaics - below)).astype(images.dtype)
    return changed


def _inside(length: int, fraction: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n, length) True along a random stretch of `fraction` (n,) of the length."""
    span = np.round(np.minimum(fraction, 1) * length)
    start = np.floor(rng.uniform(size=len(fraction)) * (length - span + 1))
    places = np.arange(length)
    return (places >= start[:, None]) & (places < (start + span)[:, None])
