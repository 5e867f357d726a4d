"""Disagreement as a detector: the rule of the disagreement guard, which has no dial."""

import numpy as np

from badnet_defense.detectors import scores
from badnet_defense.detectors.base import Detector
from badnet_defense.detectors.calibration import seen_rate


class HardDisagreement(Detector):
    """Flags pictures on which the bad net and its repair answer differently.

    `fit` only finds out what false-alarm rate to expect; `false_positive_rate` plays no part.

    Args:
        bad, repaired: `keras.Model`s, pictures (n, h, w, c) in `input_range` -> probabilities.
        false_positive_rate, input_range: as for `Detector`.
    """

    measure = scores.hard
    threshold_ = 0.5

    def __init__(self, bad, repaired, **settings):
        super().__init__({"bad": bad, "repaired": repaired}, **settings)

    def fit_scores(self, scores):
        """Finds out what rate to expect from the scores (n,) of clean pictures."""
        self.expected_ = seen_rate(np.asarray(scores) > self.threshold_)
        return self
