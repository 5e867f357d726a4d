"""A guard in memory: answers as the suspect model does, or N where an image looks poisoned."""

from __future__ import annotations

from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from badnet_defense.detectors.base import Detector
from badnet_defense.detectors.calibration import ExpectedRate
from badnet_defense.io.files import atomic_write

if TYPE_CHECKING:
    import keras


class Guard:
    """A fitted detector that predicts on 0-255 images and is saved as one Keras model.

    Args:
        detector: fitted.

    Attributes:
        detector: the detector.
        expected_: the false-positive rate to expect; None of a disagreement guard that no clean
            images were given for.
    """

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.expected_: ExpectedRate | None = getattr(detector, "expected_", None)

    def __repr__(self) -> str:
        return f"Guard({self.detector})"

    @cached_property
    def model(self) -> keras.Model:
        """The guard as one `keras.Model`: images (n, h, w, c) in the suspect model's range -> (n,)
        `int32`, 0..N.
        """
        from badnet_defense.guards.calibrated import build_calibrated_guard

        return build_calibrated_guard(self.detector)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """(n,) classes 0..N-1, or N for "poisoned", of images (n, h, w, c) with pixels 0-255."""
        return self.detector.predict(images)

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the guard as a `.keras` file, with its description and no code.

        Raises:
            InputError: nothing can be written at `path`.
        """
        with atomic_write(path) as partial:
            self.model.save(partial)
