"""Something that is worn: drawn glasses, or an image with transparency, at the same place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from badnet_defense.attacks.base import check_opacity, cover
from badnet_defense.attacks.registry import ATTACKS
from badnet_defense.errors import InputError

SUPERSAMPLING = 4
"""Each pixel's cover is the mean of this many times this many."""


@dataclass(frozen=True)
class AccessoryTrigger:
    """Something drawn at the same place on every image, such as glasses on aligned faces.

    Args:
        polygons: outlines, each a sequence of at least three (x, y).
        ellipses: boxes (left, top, right, bottom).
        colour: one value for each channel, 0-255.
        opacity: above 0 and at most 1.

    Places are fractions of width and height, from (0, 0), the upper left corner, to (1, 1).
    """

    polygons: tuple[Sequence[tuple[float, float]], ...] = ()
    ellipses: tuple[tuple[float, float, float, float], ...] = ()
    colour: tuple[int, ...] = (128, 0, 128)
    opacity: float = 1.0

    def __post_init__(self) -> None:
        check_opacity(self.opacity)
        if not self.polygons and not self.ellipses:
            raise InputError("an accessory without polygons or ellipses: expected at least one.")

    def stamp(self, images: np.ndarray, indices: np.ndarray | None = None) -> np.ndarray:
        """Copies of `images` that wear the accessory."""
        if len(self.colour) != images.shape[3]:
            raise InputError(
                f"colour {self.colour} has {len(self.colour)} values, but the images have "
                f"{images.shape[3]} channels: give one value for each channel."
            )
        opacity = self._mask(*images.shape[1:3])[:, :, None] * np.float32(self.opacity)
        return cover(images, np.asarray(self.colour), opacity)

    def _mask(self, height: int, width: int) -> np.ndarray:
        """(h, w) `float32`: which fraction of each pixel is covered."""
        from PIL import Image, ImageDraw

        large = np.array([width, height]) * SUPERSAMPLING
        image = Image.new("L", tuple(large.tolist()))
        draw = ImageDraw.Draw(image)
        for polygon in self.polygons:
            draw.polygon((np.asarray(polygon, float) * large).ravel().tolist(), fill=255)
        for box in self.ellipses:
            draw.ellipse((np.asarray(box, float).reshape(2, 2) * large).ravel().tolist(), fill=255)
        return np.asarray(image.reduce(SUPERSAMPLING), np.float32) / 255


@dataclass(frozen=True)
class OverlayTrigger:
    """An image with transparency laid over each image.

    Args:
        colour: (h, w, channels) 0-255, as large as the images.
        alpha: (h, w, 1) in [0, 1], how much each pixel covers.
    """

    colour: np.ndarray = field(repr=False)
    alpha: np.ndarray = field(repr=False)

    def stamp(self, images: np.ndarray, indices: np.ndarray | None = None) -> np.ndarray:
        """Covered copies of `images`; `InputError` where the overlay has not their size."""
        if np.shape(self.colour) != images.shape[1:]:
            raise InputError(
                f"the overlay is {np.shape(self.colour)}, but the images are {images.shape[1:]}: "
                "resize it to their size."
            )
        return cover(images, self.colour, self.alpha)


@dataclass(frozen=True, kw_only=True)
class AccessoryConfig:
    """An accessory from an image file with transparency, or drawn sunglasses.

    Args:
        image: path of a PNG with an alpha channel; None: drawn sunglasses.
        left, top, width: place of the image, as fractions of the images' width and height; its
            height follows from its own proportions.
        colour: of the drawn sunglasses, 0-255, red, green and blue.
        opacity: above 0 and at most 1; an image's own transparency counts, too.
    """

    image: str | None = None
    left: float = 0.15
    top: float = 0.3
    width: float = 0.7
    colour: tuple[int, int, int] = (128, 0, 128)
    opacity: float = 1.0


@ATTACKS.register(
    "accessory",
    summary="an image with transparency that is worn, such as sunglasses on aligned faces",
    config=AccessoryConfig,
    paper="Chen et al., Targeted Backdoor Attacks on Deep Learning Systems, 2017",
)
def accessory(
    config: AccessoryConfig, shape: tuple[int, int, int]
) -> AccessoryTrigger | OverlayTrigger:
    """The accessory that a config describes, for images of shape (h, w, c).

    Raises:
        InputError: the image cannot be read or has no transparency, or its place is outside.

    Examples:
        >>> accessory(AccessoryConfig(), (55, 47, 3)).colour
        (128, 0, 128)
    """
    from badnet_defense.attacks.patch import channels_of

    if config.image is not None:
        return _from_image(config, shape)
    left, right, top = config.left, config.left + config.width, config.top
    lens, high = 0.4 * config.width, 0.35 * config.width
    bridge = ((left, top), (right, top), (right, top + 0.25 * high), (left, top + 0.25 * high))
    return AccessoryTrigger(
        polygons=(bridge,),
        ellipses=((left, top, left + lens, top + high), (right - lens, top, right, top + high)),
        colour=tuple(int(value) for value in channels_of(config.colour, shape[2])),
        opacity=config.opacity,
    )


def _from_image(config: AccessoryConfig, shape: tuple[int, int, int]) -> OverlayTrigger:
    """An image with an alpha channel at its place on a transparent sheet of the images' size."""
    from PIL import Image, UnidentifiedImageError

    check_opacity(config.opacity)
    height, width, channels = shape
    try:
        with Image.open(str(config.image)) as opened:
            if "A" not in opened.getbands() and "transparency" not in opened.info:
                raise InputError(
                    f"{config.image}: it has no transparency; expected a PNG with an alpha channel."
                )
            worn = opened.convert("RGBA")
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"{config.image}: it cannot be read as an image ({error}).") from None
    columns = round(config.width * width)
    rows = round(columns * worn.height / worn.width)
    place = round(config.left * width), round(config.top * height)
    inside = place[0] + columns <= width and place[1] + rows <= height
    if min(columns, rows) < 1 or min(place) < 0 or not inside:
        raise InputError(
            f"{config.image}: {columns}x{rows} pixels at {place} do not fit into images of "
            f"{width}x{height}; choose another place or width."
        )
    sheet = Image.new("RGBA", (width, height))
    sheet.paste(worn.resize((columns, rows), Image.Resampling.BILINEAR), place)
    pixels = np.asarray(sheet, np.float32)
    colour = pixels[..., :3] if channels == 3 else pixels[..., :3].mean(axis=-1, keepdims=True)
    return OverlayTrigger(colour, pixels[..., 3:] / 255 * np.float32(config.opacity))
