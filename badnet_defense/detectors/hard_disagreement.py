"""Disagreement as a detector: the rule of the disagreement guard, which has no threshold to set."""

from __future__ import annotations

import numpy as np

from badnet_defense.detectors import scores
from badnet_defense.detectors.base import DEFAULTS, Detector, DetectorConfig
from badnet_defense.detectors.calibration import measured_rate
from badnet_defense.detectors.registry import DETECTORS
from badnet_defense.nets.net import Net


@DETECTORS.register(
    "hard",
    summary="the models' classes differ; no threshold and no clean images needed",
    config=DetectorConfig,
    score="1 where the models disagree",
    needs_repair=True,
    has_threshold=False,
)
class HardDisagreement(Detector):
    """Flags images on which the suspect model and its repair answer differently.

    `fit` only measures the false-positive rate to expect; `config.false_positive_rate` has no
    effect.

    Args:
        suspect, repaired: `Net`s that answer with probabilities.
        config: as for `Detector`.

    Examples:
        >>> from badnet_defense.nets import deep_id, describe
        >>> suspect, repaired = (describe(deep_id(classes=10)) for _ in range(2))
        >>> detector = HardDisagreement(suspect, repaired)
        >>> answers = detector.predict(np.zeros((2, 55, 47, 3), "uint8"))  # 0..9, or 10
        >>> answers.shape
        (2,)
    """

    measure = scores.hard

    def __init__(self, suspect: Net, repaired: Net, *, config: DetectorConfig = DEFAULTS) -> None:
        super().__init__({"suspect": suspect, "repaired": repaired}, config)
        self.threshold_ = 0.5

    def fit_scores(self, scores: np.ndarray) -> HardDisagreement:
        """Measures the rate to expect with the scores (n,) of clean images."""
        self.expected_ = measured_rate(np.asarray(scores) > self.threshold_)
        return self
