"""What detectors share that ask the suspect model about an image together with clean images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

from badnet_defense.detectors.base import Detector, DetectorConfig, not_probabilities
from badnet_defense.errors import InputError
from badnet_defense.nets.net import Net
from badnet_defense.nets.outputs import is_distribution
from badnet_defense.nets.shapes import images_at_once

PAIRS_AT_ONCE = 1024
"""Composed images on the way through the net: more were no faster on two cores."""


@dataclass(frozen=True)
class OverlayConfig(DetectorConfig):
    """The settings of a detector that composes images.

    Args:
        false_positive_rate: as for `DetectorConfig`.
        overlays: how many clean images each input is composed with.
        seed: of the draw of these images.
    """

    overlays: int = 100
    seed: int = 0


class Overlaid(Detector):
    """Base class: composes each image with several clean ones and asks the suspect model alone.

    A subclass says what is composed (`compose`) and what the suspect model's answers to it score
    (`measure`); a guard's file and its reader are made from both. `compiled` does the same fast.

    Args:
        suspect: `Net` that answers with probabilities.
        overlays: (k, h, w, c) clean images to compose with, pixels 0-255; None: `config.overlays`
            of them are drawn by `fit`.
        config: settings.

    Attributes:
        regions: how many images are composed of one image and one overlay.
        overlays_: after `fit`, the clean images (k, h, w, c), pixels 0-255.
    """

    config: OverlayConfig
    regions: ClassVar[int] = 1

    def __init__(
        self, suspect: Net, *, overlays: np.ndarray | None = None, config: OverlayConfig
    ) -> None:
        super().__init__({"suspect": suspect}, config)
        self.overlays = overlays
        self.overlays_: np.ndarray
        if overlays is not None:
            self.overlays_ = overlays
        self._score: Callable[[np.ndarray], np.ndarray] | None = None

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """Draws the overlays; returns the other images.

        Raises:
            InputError: fewer than twice as many images as overlays.
        """
        if self.overlays is not None:
            return images
        count = self.config.overlays
        if len(images) < 2 * count:
            raise InputError(
                f"{type(self).__name__} needs at least {2 * count} clean images, got "
                f"{len(images)}: it composes {count} with each image and sets its threshold with "
                "the others."
            )
        order = np.random.default_rng((self.config.seed, 5)).permutation(len(images))
        self.overlays_ = images[np.sort(order[:count])]
        self._score = None
        return images[np.sort(order[count:])]

    @staticmethod
    def compose(xp: Any, images: Any, overlays: Any) -> Any:
        """(n, regions * overlays, h, w, c) composed images, all overlays of a region in a row.

        Args:
            xp: `numpy` or `keras.ops`.
            images: (n, h, w, c) in the suspect model's range.
            overlays: (overlays, h, w, c) likewise.
        """
        raise NotImplementedError

    def compiled(self, most: int) -> Callable[[np.ndarray], np.ndarray]:
        """A function, images (n, h, w, c) with pixels 0-255 -> (n,) scores.

        Args:
            most: composed images that may go through the net at once.
        """
        raise NotImplementedError

    def anomaly_score(self, images: np.ndarray) -> np.ndarray:
        """(n,) scores of images (n, h, w, c), pixels 0-255; higher is more anomalous."""
        if self._score is None:
            if not is_distribution(self.suspect):
                raise InputError(not_probabilities("suspect"))
            self._most = images_at_once(self.suspect, PAIRS_AT_ONCE)
            self._score = self.compiled(self._most)
        score = self._score
        size = max(1, self._most // len(self.overlays_))
        starts = range(0, len(images), size)
        return np.concatenate(
            [
                score(images[start : start + size])
                for start in tqdm(starts, desc="overlaying", disable=None)
            ]
        )
