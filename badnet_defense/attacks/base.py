"""What every trigger has, and how one covers images."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from badnet_defense.errors import InputError


class Trigger(Protocol):
    """What an attacker puts on an image so that a backdoored net answers with the target class."""

    def stamp(self, images: np.ndarray, indices: np.ndarray | None = None) -> np.ndarray:
        """Copies of images (n, h, w, c) `uint8` 0-255 that carry the trigger.

        Args:
            images: clean images.
            indices: (n,) their positions in the whole set, for triggers that were rendered image by
                image.

        Raises:
            InputError: the trigger does not fit the images.
        """


def check_opacity(opacity: float) -> None:
    """Refuses an opacity that is not above 0 and at most 1."""
    if not 0 < opacity <= 1:
        raise InputError(f"opacity: got {opacity}, expected a number above 0 and at most 1.")


def cover(
    images: np.ndarray, colour: np.ndarray, opacity: np.ndarray | np.floating, block: int = 1024
) -> np.ndarray:
    """`images` mixed with `colour`, block by block: never a float copy of the whole set.

    Args:
        images: (n, h, w, c) `uint8` 0-255.
        colour: 0-255, broadcast to (h, w, c).
        opacity: in [0, 1], broadcast to (h, w, c): the fraction of `colour` in the result.
        block: images that are mixed at once.
    """
    covered = np.empty_like(images)
    for start in range(0, len(images), block):
        part = images[start : start + block].astype(np.float32)
        covered[start : start + block] = np.rint(part + (colour - part) * opacity)
    return covered
