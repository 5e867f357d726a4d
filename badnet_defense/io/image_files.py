"""One image file as an array that a net can take."""

from __future__ import annotations

import logging
import struct
import warnings
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image, WebPImagePlugin  # noqa: F401 importing it makes Pillow know WebP

from badnet_defense.errors import InputError, ReaderError, TooLargeError
from badnet_defense.io.files import require_file
from badnet_defense.io.listing import FORMATS
from badnet_defense.sandbox.client import isolated
from badnet_defense.sandbox.limits import current

_log = logging.getLogger("badnet_defense")

_MAX_PIXELS = 50_000_000  # 150 MB unpacked; a net's input has a few thousand
_BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, OverflowError, struct.error),
    *(AttributeError, TypeError, KeyError, IndexError, ZeroDivisionError, MemoryError),
)  # from Pillow
_FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP")
"""As Pillow calls what `FORMATS` calls; each one is a parser that hostile files reach."""
_ORIENTATION = 274
_UPRIGHT = dict(zip(range(2, 9), (0, 3, 1, 5, 4, 6, 2), strict=True))  # EXIF's -> `Transpose`


def read_image(path: str | PathLike[str], shape: tuple[int, int, int]) -> np.ndarray:
    """An image file of any size and colour mode, as the net takes it.

    Transparency is dropped, EXIF rotation applied, and another size resized with antialiasing
    (Lanczos), which is said through the "badnet_defense" logger.

    Args:
        path: a PNG, JPEG, BMP, PPM/PGM or WebP file, told by its content.
        shape: the net's input (h, w, channels), channels 1 (grey) or 3 (RGB).

    Returns:
        (h, w, channels) `uint8`, 0-255.

    Raises:
        InputError: no file, no image, a damaged one, one of more than 50 million pixels, or a
            net with other channels.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> from badnet_defense.io import read_image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (4, 6), (255, 0, 0)).save(f"{folder}/red.png")
        ...     image = read_image(f"{folder}/red.png", (6, 4, 3))
        >>> image.shape, image[0, 0].tolist()
        ((6, 4, 3), [255, 0, 0])
    """
    if current().isolate:
        _, (pixels,) = isolated("image", path, count=(1,), shape=list(shape))
        if pixels.shape != tuple(shape) or pixels.dtype != np.uint8:
            raise ReaderError(f"{path}: its reader hands back no image.")
        return pixels
    pixels, original = read_and_resize(path, shape)
    if original != tuple(shape[:2]):
        _log.warning(
            "%s: resized from %dx%d to %dx%d (height x width).", path, *original, *shape[:2]
        )
    return pixels


def read_and_resize(
    path: str | PathLike[str], shape: tuple[int, int, int]
) -> tuple[np.ndarray, tuple[int, int]]:
    """As `read_image`, but silent: also gives the image's own (h, w)."""
    height, width, channels = shape
    if channels not in (1, 3):
        raise InputError(
            f"{path}: the net takes images of {channels} channels, but image files give 1 or "
            "3; bring its images as HDF5."
        )
    image = _open(require_file(path, f"a {FORMATS} image"), "L" if channels == 1 else "RGB")
    original = (image.height, image.width)
    if original != (height, width):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(image, np.uint8)  # (h, w) of grey images
    return pixels if channels == 3 else pixels[..., np.newaxis], original


def _open(path: Path, mode: str) -> Image.Image:
    """The upright image in `mode`; every way in which a file can be wrong ends as InputError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warnings: what matters is refused below
            image = Image.open(path, formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except _BROKEN as error:
        raise InputError(f"{path}: this is not an image, expected {FORMATS}.") from error
    with image:
        if image.width * image.height > _MAX_PIXELS:
            raise _too_large(path)
        if image.format == "WEBP" and getattr(image, "is_animated", False):
            raise InputError(f"{path}: this is an animation, expected a single image.")
        if image.mode == "F":
            raise InputError(
                f"{path}: its pixels are fractions without a known white, expected 8 or 16 bits."
            )
        try:
            return _convert(_upright(image), mode)
        except _BROKEN as error:
            raise InputError(
                f"{path}: this image is truncated or damaged ({error}), expected a complete one."
            ) from error


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF says; only that one note of it is read."""
    try:
        turned = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except _BROKEN:  # damaged notes leave an image as it is
        turned = None
    return image if turned is None else image.transpose(Image.Transpose(turned))


def _too_large(path: str | PathLike[str]) -> TooLargeError:
    return TooLargeError(
        f"{path}: this image has too many pixels, expected at most {_MAX_PIXELS // 10**6} "
        "million; make it smaller."
    )


def _convert(image: Image.Image, mode: str) -> Image.Image:
    """`image` in 8 bits; Pillow would clip 16-bit grey at 255 instead of scaling it."""
    if image.mode.startswith("I"):
        image = Image.fromarray(np.rint(np.asarray(image) / 257.0).astype(np.uint8))
    return image.convert("RGB").convert(mode)
