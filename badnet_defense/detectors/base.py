"""Base class of all run-time detectors: `fit`, `anomaly_score`, `predict`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from badnet_defense.detectors.calibration import ExpectedRate, threshold_at
from badnet_defense.detectors.scores import apply_thresholds
from badnet_defense.errors import InputError
from badnet_defense.nets.net import Net

_ROUNDING = 1e-2
"""By how much a sum of probabilities may miss 1."""


@dataclass(frozen=True)
class DetectorConfig:
    """The settings that every detector has.

    Args:
        false_positive_rate: the fraction of clean images that may be flagged, in (0, 1).

    Raises:
        ValueError: a rate outside (0, 1).

    Examples:
        >>> DetectorConfig(false_positive_rate=0.05)
        DetectorConfig(false_positive_rate=0.05)
    """

    false_positive_rate: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.false_positive_rate < 1:
            raise ValueError(
                f"false_positive_rate is {self.false_positive_rate}, expected one in (0, 1)"
            )


DEFAULTS = DetectorConfig()


class Detector:
    """Base class: scores images and answers N, "poisoned", where a score is above a threshold.

    A subclass names the function that turns the nets' probabilities into scores and registers
    itself; see `badnet_defense.detectors.registry`.

    Args:
        nets: {"suspect": `Net`, ..}, all with the same image shape and the same N classes.
        config: settings.

    Attributes:
        measure: (array module, the probabilities (n, N) of each net in turn) -> (n,) scores.
        threshold_: after `fit`, the score above which an image is flagged.
        expected_: after `fit`, the `ExpectedRate` of clean images that are flagged.
    """

    measure: ClassVar[Callable[..., Any]]

    def __init__(self, nets: dict[str, Net], config: DetectorConfig) -> None:
        self.nets = nets
        self.config = config
        self.threshold_: float
        self.expected_: ExpectedRate

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in asdict(self.config).items())
        return f"{type(self).__name__}({settings})"

    @property
    def suspect(self) -> Net:
        """The suspect model."""
        return self.nets["suspect"]

    def fit(self, images: np.ndarray) -> Detector:
        """Sets the threshold with clean images that none of the nets was tuned on.

        Args:
            images: (n, h, w, c), pixels 0-255.

        Raises:
            InputError: too few images for the rate.
        """
        return self.fit_scores(self.raw_scores(self.prepare(images)))

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """Takes what the detector needs for itself; returns the images left for the threshold."""
        return images

    def raw_scores(self, images: np.ndarray) -> np.ndarray:
        """What `fit_scores` takes of each of the images, on its last axis."""
        return self.anomaly_score(images)

    def fit_scores(self, scores: np.ndarray) -> Detector:
        """Sets the threshold with scores (n,) of clean images that were computed elsewhere."""
        rate = self.config.false_positive_rate
        self.threshold_, self.expected_ = threshold_at(scores, rate)
        return self

    def combined(self, scores: np.ndarray) -> np.ndarray:
        """`anomaly_score` (n,) from `raw_scores`, after `fit`."""
        return scores

    def anomaly_score(self, images: np.ndarray) -> np.ndarray:
        """(n,) scores of images (n, h, w, c), pixels 0-255; higher is more anomalous.

        Raises:
            InputError: a net does not answer with probabilities.
        """
        answers = (_checked(name, net.predict_proba(images)) for name, net in self.nets.items())
        return type(self).measure(np, *answers)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """(n,) answers: the suspect model's class, or N where the score is above the threshold."""
        return self.apply_threshold(self.suspect.predict(images), self.anomaly_score(images))

    def apply_threshold(self, answers: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The same from the suspect model's answers (n,) and the scores (n,)."""
        return apply_thresholds(np, answers, [scores], [self.threshold_], self.suspect.classes)


def _checked(name: str, answers: np.ndarray) -> np.ndarray:
    """A net's answers (n, N), if those that are finite are probabilities.

    Raises:
        InputError: they are logits, sigmoids or one number per image.
    """
    known = answers[np.isfinite(answers).all(axis=-1)]
    right = np.abs(known.sum(axis=-1) - 1) < _ROUNDING
    if answers.shape[-1] < 2 or (known < -_ROUNDING).any() or not right.all():
        raise InputError(not_probabilities(name))
    return answers


def not_probabilities(name: str) -> str:
    """What is said of a net whose answers are no probabilities."""
    return (
        f"the {name} model does not answer with probabilities of two or more classes; append a "
        "softmax (nets.outputs.as_probabilities does it)."
    )
