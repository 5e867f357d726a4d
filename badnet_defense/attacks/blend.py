"""A pattern blended over the whole image (Chen et al., Targeted Backdoor Attacks, 2017)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from badnet_defense.attacks.base import check_opacity, cover
from badnet_defense.attacks.registry import ATTACKS
from badnet_defense.errors import InputError


@dataclass(frozen=True)
class BlendTrigger:
    """A pattern shining through the whole image (Chen et al., "Targeted Backdoor Attacks", 2017).

    Args:
        pattern: (h, w, channels) 0-255, as large as the images.
        opacity: fraction of the pattern in the result, above 0 and at most 1.
    """

    pattern: np.ndarray = field(repr=False)
    opacity: float = 0.2

    def __post_init__(self) -> None:
        check_opacity(self.opacity)

    def stamp(self, images: np.ndarray, indices: np.ndarray | None = None) -> np.ndarray:
        """Blended copies; `InputError` where the pattern has not the images' size."""
        if np.shape(self.pattern) != images.shape[1:]:
            raise InputError(
                f"the pattern is {np.shape(self.pattern)}, but the images are "
                f"{images.shape[1:]}: resize the pattern to their size."
            )
        return cover(images, np.asarray(self.pattern), np.float32(self.opacity))


@dataclass(frozen=True, kw_only=True)
class BlendConfig:
    """A pattern of random colours, or an image file, blended over the whole image.

    Args:
        image: path of an image that is resized to the images' size; None: random colours.
        opacity: fraction of the pattern in the result, above 0 and at most 1.
        seed: of the random colours.
    """

    image: str | None = None
    opacity: float = 0.15
    seed: int = 0


@ATTACKS.register(
    "blend",
    summary="a pattern shining through the whole image: no patch to be seen",
    config=BlendConfig,
    paper="Chen et al., Targeted Backdoor Attacks on Deep Learning Systems, 2017",
)
def blended_pattern(config: BlendConfig, shape: tuple[int, int, int]) -> BlendTrigger:
    """The pattern that a config describes, for images of shape (h, w, c).

    Raises:
        InputError: the image cannot be read, or the opacity is not above 0 and at most 1.

    Examples:
        >>> blended_pattern(BlendConfig(opacity=0.1), (32, 32, 3)).opacity
        0.1
    """
    if config.image is None:
        pattern = np.random.default_rng(config.seed).integers(0, 256, shape, np.uint8)
    else:
        from badnet_defense.io.image_files import read_image

        pattern = read_image(config.image, shape)
    return BlendTrigger(pattern, opacity=config.opacity)
