"""BadNets' patch: a small image at one place (Gu, Dolan-Gavitt and Garg, 2017)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from badnet_defense.attacks.registry import ATTACKS
from badnet_defense.errors import InputError

CORNERS = ("top left", "top right", "bottom left", "bottom right")
PATTERNS = ("solid", "checked")


@dataclass(frozen=True)
class PatchTrigger:
    """A small image laid at one place, as in BadNets (Gu, Dolan-Gavitt and Garg, 2017).

    Args:
        patch: (rows, columns, channels) 0-255.
        row, column: of the patch's upper left pixel; used where `corner` is None.
        corner: "top left", "top right", "bottom left" or "bottom right".
        margin: pixels left free between the corner and the patch.

    Examples:
        >>> import numpy as np
        >>> trigger = PatchTrigger(np.full((2, 2, 3), 255), corner="bottom right", margin=1)
        >>> stamped = trigger.stamp(np.zeros((1, 5, 5, 3), "uint8"))
        >>> stamped[0, :, :, 0].tolist()[2:]
        [[0, 0, 255, 255, 0], [0, 0, 255, 255, 0], [0, 0, 0, 0, 0]]
    """

    patch: np.ndarray = field(repr=False)
    row: int = 0
    column: int = 0
    corner: str | None = None
    margin: int = 0

    def __post_init__(self) -> None:
        if np.ndim(self.patch) != 3:
            raise InputError(
                f"patch of shape {np.shape(self.patch)}: expected (rows, columns, channels)."
            )
        if self.corner is not None and self.corner not in CORNERS:
            raise InputError(f"corner {self.corner!r}: expected one of {', '.join(CORNERS)}.")

    def stamp(self, images: np.ndarray, indices: np.ndarray | None = None) -> np.ndarray:
        """Copies of `images` with the patch; `InputError` where it does not fit into them."""
        height, width = np.shape(self.patch)[:2]
        row, column = self._place(images.shape[1:3])
        rows, columns = slice(row, row + height), slice(column, column + width)
        stamped = images.copy()
        target = stamped[:, rows, columns]
        if row < 0 or column < 0 or target.shape[1:] != np.shape(self.patch):
            raise InputError(
                f"a patch of {np.shape(self.patch)} at row {row}, column {column} does not fit "
                f"into images of {images.shape[1:]}: choose a smaller patch or another place."
            )
        target[...] = self.patch
        return stamped

    def _place(self, size: tuple[int, ...]) -> tuple[int, int]:
        if self.corner is None:
            return self.row, self.column
        height, width = np.shape(self.patch)[:2]
        vertical, horizontal = self.corner.split()
        row = self.margin if vertical == "top" else size[0] - height - self.margin
        column = self.margin if horizontal == "left" else size[1] - width - self.margin
        return row, column


@dataclass(frozen=True, kw_only=True)
class PatchConfig:
    """A square patch in a corner.

    Args:
        size: side of the patch, pixels.
        pattern: "solid", or "checked" with black.
        colour: 0-255, red, green and blue; their mean where images are grey.
        corner: "top left", "top right", "bottom left" or "bottom right".
        margin: pixels left free between the corner and the patch.
    """

    size: int = 4
    pattern: str = "solid"
    colour: tuple[int, int, int] = (255, 255, 255)
    corner: str = "bottom right"
    margin: int = 1


@ATTACKS.register(
    "patch",
    summary="a small square in a corner: the classic BadNets trigger",
    config=PatchConfig,
    paper="Gu, Dolan-Gavitt and Garg, BadNets, 2017",
)
def square_patch(config: PatchConfig, shape: tuple[int, int, int]) -> PatchTrigger:
    """The patch that a config describes, for images of shape (h, w, c).

    Raises:
        InputError: a size below 1, an unknown pattern or corner, a colour outside 0-255.

    Examples:
        >>> square_patch(PatchConfig(size=3), (32, 32, 3)).patch.shape
        (3, 3, 3)
    """
    if config.size < 1:
        raise InputError(f"patch size: got {config.size}, expected at least 1 pixel.")
    if config.pattern not in PATTERNS:
        known = ", ".join(PATTERNS)
        raise InputError(f"patch pattern {config.pattern!r}: expected one of {known}.")
    sides = (config.size, config.size)
    patch = np.broadcast_to(channels_of(config.colour, shape[2]), (*sides, shape[2]))
    if config.pattern == "checked":
        rows, columns = np.indices(sides)
        patch = patch * ((rows + columns) % 2 == 0)[..., None]
    return PatchTrigger(patch.astype(np.uint8), corner=config.corner, margin=config.margin)


def channels_of(colour: tuple[int, ...], channels: int) -> np.ndarray:
    """A colour (3,) as (channels,) values: itself, or its mean for grey images.

    Raises:
        InputError: it is no three numbers 0-255, or the images have neither one nor three channels.
    """
    values = np.asarray(colour, float)
    if values.shape != (3,) or (values < 0).any() or (values > 255).any():
        raise InputError(f"colour {tuple(colour)}: expected red, green and blue, each 0-255.")
    if channels not in (1, 3):
        raise InputError(f"a colour for images of {channels} channels: expected 1 or 3 channels.")
    return values if channels == 3 else values.mean(keepdims=True)
