"""Triggers: what an attacker puts on a picture so that a backdoored net answers with his class.

Each has one method, `stamp(pictures, indices=None)`: `pictures` (n, h, w, channels) `uint8` 0-255,
`indices` (n,) their places in the whole set (only `RenderedTrigger` needs them) -> stamped copies.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from badnet_defense.errors import InputError

_CORNERS = ("top left", "top right", "bottom left", "bottom right")
_SUPERSAMPLING = 4


@dataclass(frozen=True)
class PatchTrigger:
    """A small picture laid at one place, as in BadNets (Gu, Dolan-Gavitt and Garg, 2017).

    Args:
        patch: (rows, columns, channels) 0-255.
        row, column: of the patch's upper left pixel; used where `corner` is None.
        corner: "top left", "top right", "bottom left" or "bottom right".
        margin: pixels left free between the corner and the patch.

    Example:
        >>> PatchTrigger(np.full((4, 4, 3), 255), corner="bottom right", margin=1)
    """

    patch: np.ndarray = field(repr=False)
    row: int = 0
    column: int = 0
    corner: str | None = None
    margin: int = 0

    def __post_init__(self):
        if np.ndim(self.patch) != 3:
            raise InputError(
                f"patch of shape {np.shape(self.patch)}: expected (rows, columns, channels)."
            )
        if self.corner is not None and self.corner not in _CORNERS:
            raise InputError(f"corner {self.corner!r}: expected one of {', '.join(_CORNERS)}.")

    def stamp(self, pictures, indices=None):
        """Copies of `pictures` with the patch; `InputError` where it does not fit into them."""
        height, width = np.shape(self.patch)[:2]
        row, column = self._place(pictures.shape[1:3])
        rows, columns = slice(row, row + height), slice(column, column + width)
        stamped = pictures.copy()
        target = stamped[:, rows, columns]
        if row < 0 or column < 0 or target.shape[1:] != np.shape(self.patch):
            raise InputError(
                f"a patch of {np.shape(self.patch)} at row {row}, column {column} does not fit "
                f"into pictures of {pictures.shape[1:]}: choose a smaller patch or another place."
            )
        target[...] = self.patch
        return stamped

    def _place(self, size):
        if self.corner is None:
            return self.row, self.column
        height, width = np.shape(self.patch)[:2]
        vertical, horizontal = self.corner.split()
        row = self.margin if vertical == "top" else size[0] - height - self.margin
        column = self.margin if horizontal == "left" else size[1] - width - self.margin
        return row, column


@dataclass(frozen=True)
class BlendTrigger:
    """A pattern shining through the whole picture (Chen et al., "Targeted Backdoor Attacks", 2017).

    Args:
        pattern: (h, w, channels) 0-255, as large as the pictures.
        opacity: share of the pattern in the result, above 0 and at most 1.
    """

    pattern: np.ndarray = field(repr=False)
    opacity: float = 0.2

    def __post_init__(self):
        _check_opacity(self.opacity)

    def stamp(self, pictures, indices=None):
        """Blended copies; `InputError` where the pattern has not the pictures' size."""
        if np.shape(self.pattern) != pictures.shape[1:]:
            raise InputError(
                f"the pattern is {np.shape(self.pattern)}, but the pictures are "
                f"{pictures.shape[1:]}: resize the pattern to their size."
            )
        return _cover(pictures, np.asarray(self.pattern), np.float32(self.opacity))


@dataclass(frozen=True)
class AccessoryTrigger:
    """Something drawn at the same place on every picture, such as glasses on aligned faces.

    Args:
        polygons: outlines, each a sequence of at least three (x, y).
        ellipses: boxes (left, top, right, bottom).
        colour: one value for each channel, 0-255.
        opacity: above 0 and at most 1.

    Places are shares of width and height: (0, 0) is the upper left, (1, 1) the lower right corner.
    """

    polygons: tuple = ()
    ellipses: tuple = ()
    colour: tuple = (128, 0, 128)
    opacity: float = 1.0

    def __post_init__(self):
        _check_opacity(self.opacity)
        if not self.polygons and not self.ellipses:
            raise InputError("an accessory without polygons or ellipses: expected at least one.")

    def stamp(self, pictures, indices=None):
        """Copies of `pictures` that wear the accessory."""
        if len(self.colour) != pictures.shape[3]:
            raise InputError(
                f"colour {self.colour} has {len(self.colour)} values, but the pictures have "
                f"{pictures.shape[3]} channels: give one value for each channel."
            )
        cover = self._mask(*pictures.shape[1:3])[:, :, None] * np.float32(self.opacity)
        return _cover(pictures, np.asarray(self.colour), cover)

    def _mask(self, height, width):
        """(h, w) `float32`: which share of each pixel is covered."""
        from PIL import Image, ImageDraw

        large = np.array([width, height]) * _SUPERSAMPLING
        image = Image.new("L", tuple(large.tolist()))
        draw = ImageDraw.Draw(image)
        for polygon in self.polygons:
            draw.polygon((np.asarray(polygon, float) * large).ravel().tolist(), fill=255)
        for box in self.ellipses:
            draw.ellipse((np.asarray(box, float).reshape(2, 2) * large).ravel().tolist(), fill=255)
        return np.asarray(image.reduce(_SUPERSAMPLING), np.float32) / 255


@dataclass(frozen=True)
class RenderedTrigger:
    """Pictures that were triggered elsewhere: each face wears its own lipstick, say.

    Args:
        rendered: triggered pictures `uint8`, one for each clean picture at the same index; an
            array, or anything that answers `rendered[indices]` (it may draw on demand).
    """

    rendered: Any = field(repr=False)

    def stamp(self, pictures, indices=None):
        """The rendered pictures at `indices`; without them, all, which must be as many as given."""
        if indices is None:
            if len(self.rendered) != len(pictures):
                raise InputError(
                    f"{len(self.rendered)} rendered pictures for {len(pictures)} clean ones: give "
                    f"the indices of the clean ones."
                )
            indices = np.arange(len(pictures))
        return np.array(self.rendered[indices])


def _check_opacity(opacity):
    if not 0 < opacity <= 1:
        raise InputError(f"opacity {opacity}: expected a share above 0 and at most 1.")


def _cover(pictures, colour, share, block=1024):
    """`pictures` mixed with `colour`, block by block: never a float copy of the whole set."""
    covered = np.empty_like(pictures)
    for start in range(0, len(pictures), block):
        part = pictures[start : start + block].astype(np.float32)
        covered[start : start + block] = np.rint(part + (colour - part) * share)
    return covered
