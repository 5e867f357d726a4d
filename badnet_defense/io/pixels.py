"""Pixel values of images: what a data set may hold, wherever it comes from."""

from __future__ import annotations

from os import PathLike

import numpy as np

from badnet_defense.errors import InputError

_BLOCK = 4 << 20  # values that are compared at once


def as_pixels(values: np.ndarray, source: str | PathLike[str]) -> np.ndarray:
    """Images as small as they can be held: `uint8`, or `float32` where a value is not whole.

    Args:
        values: (n, height, width, channels) of any integer or float dtype, pixels 0-255.
        source: where they came from, for messages.

    Returns:
        `values` itself where it has that dtype already, else a copy.

    Raises:
        InputError: another shape or dtype, no images, NaN, or pixels outside 0-255 or scaled to
            [0, 1].

    Examples:
        >>> import numpy as np
        >>> as_pixels(np.full((1, 2, 2, 3), 7.0), "array").dtype
        dtype('uint8')
        >>> as_pixels(np.full((1, 2, 2, 3), 7.5), "array").dtype
        dtype('float32')
    """
    check_image_shape(values.shape, source)
    check_number_dtype(values.dtype, "images have", source)
    if values.dtype == np.uint8:
        return values
    high = check_pixels(values, source)
    check_not_scaled(values.dtype, high, source)
    step = max(1, _BLOCK // values[0].size)
    blocks = (values[start : start + step] for start in range(0, len(values), step))
    return values.astype(np.uint8 if all(map(is_whole, blocks)) else np.float32, copy=False)


def check_image_shape(shape: tuple[int, ...], source: str | PathLike[str]) -> None:
    """Refuses a shape that is not (n, height, width, channels), or holds no image."""
    if len(shape) != 4:
        hint = {
            2: "; is this a table of values?",
            3: "; give images[None] for a single image, images[..., None] for grey images",
        }.get(len(shape), "")
        raise InputError(
            f"{source}: images have shape {shape}, expected (n, height, width, channels){hint}."
        )
    if 0 in shape:
        raise InputError(f"{source}: images have shape {shape}: no images, expected some.")
    if shape[1] in (1, 3) and shape[3] not in (1, 3):
        raise InputError(
            f"{source}: images have shape {shape}, as (n, channels, height, width) has, expected "
            "(n, height, width, channels); give images.transpose(0, 2, 3, 1)."
        )


def check_number_dtype(dtype: np.dtype, what: str, source: str | PathLike[str]) -> None:
    """Refuses a dtype that holds no numbers; `what` begins the sentence ("images have")."""
    if dtype.kind not in "iuf":
        raise InputError(f"{source}: {what} dtype {dtype}, expected numbers.")


def check_pixels(block: np.ndarray, source: str | PathLike[str]) -> float:
    """The largest value; refuses NaN, infinity, and what lies outside 0-255."""
    low, high = block.min(), block.max()  # NaN anywhere makes both NaN
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(f"{source}: images hold NaN or infinite pixels, expected 0-255.")
    if low < 0 or high > 255:
        raise InputError(f"{source}: pixels run from {low:g} to {high:g}, expected 0-255.")
    return float(high)


def check_not_scaled(dtype: np.dtype, high: float, source: str | PathLike[str]) -> None:
    """Refuses floats whose largest value, `high`, is at most 1; black images alone pass."""
    if dtype.kind == "f" and 0 < high <= 1:
        raise InputError(
            f"{source}: pixels lie between 0 and 1, expected 0-255; multiply them by 255."
        )


def is_whole(block: np.ndarray) -> bool:
    """True where all values, which lie in 0-255, are whole numbers."""
    return bool((block.astype(np.uint8) == block).all())
