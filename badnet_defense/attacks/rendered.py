"""Images that were triggered elsewhere, such as drawn faces that wear their own lipstick."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from badnet_defense.errors import InputError


@dataclass(frozen=True)
class RenderedTrigger:
    """Pictures that were triggered elsewhere: each face wears its own lipstick, say.

    Args:
        rendered: triggered images `uint8`, one for each clean image at the same index; an
            array, or anything that answers `rendered[indices]` (it may draw on demand).
    """

    rendered: Any = field(repr=False)

    def stamp(self, images: np.ndarray, indices: np.ndarray | None = None) -> np.ndarray:
        """The rendered images at `indices`; without them, all, which must be as many as given."""
        if indices is None:
            if len(self.rendered) != len(images):
                raise InputError(
                    f"{len(self.rendered)} rendered images for {len(images)} clean ones: give "
                    f"the indices of the clean ones."
                )
            indices = np.arange(len(images))
        return np.array(self.rendered[indices])
