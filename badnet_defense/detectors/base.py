"""The shape of every run-time detector: `fit`, `anomaly_score`, `predict`."""

import numpy as np

from badnet_defense.detectors.calibration import threshold_at
from badnet_defense.detectors.scores import apply_thresholds
from badnet_defense.errors import InputError
from badnet_defense.nets.input_range import UNIT
from badnet_defense.nets.predict import predict_labels, predict_probabilities

_ROUNDING = 1e-2
"""By how much a sum of probabilities may miss 1."""


class Detector:
    """Scores pictures and answers N, "poisoned", where a score is above a threshold.

    Args:
        nets: {"bad": `keras.Model`, ..}, pictures (n, h, w, c) -> probabilities (n, N).
        false_positive_rate: share of honest pictures that may be flagged, in (0, 1).
        input_range: the nets' range.

    Attributes:
        measure: the function of `scores` that turns the nets' answers into scores.
        threshold_: after `fit`.
        expected_: after `fit`, the false-alarm rate to expect, as `Expected`.

    Raises:
        ValueError: a rate outside (0, 1).
    """

    measure = None

    def __init__(self, nets, *, false_positive_rate=0.01, input_range=UNIT):
        if not 0 < false_positive_rate < 1:
            raise ValueError(
                f"false_positive_rate is {false_positive_rate}, expected one in (0, 1)"
            )
        self.nets = nets
        self.false_positive_rate = false_positive_rate
        self.input_range = input_range

    def __repr__(self):
        return f"{type(self).__name__}(false_positive_rate={self.false_positive_rate:g})"

    @property
    def classes(self):
        """N."""
        return self.nets["bad"].output_shape[-1]

    def fit(self, pictures):
        """Sets the threshold by clean pictures that none of the nets was tuned on.

        Args:
            pictures: (n, h, w, c), pixels 0-255.

        Raises:
            InputError: too few pictures for the rate.
        """
        return self.fit_scores(self.raw_scores(self.prepare(pictures)))

    def prepare(self, pictures):
        """Takes what the detector needs for itself; returns the pictures left for the threshold."""
        return pictures

    def raw_scores(self, pictures):
        """What `fit_scores` takes of each of the pictures, on its last axis."""
        return self.anomaly_score(pictures)

    def fit_scores(self, scores):
        """Sets the threshold by scores (n,) that were found elsewhere (cross-fitting)."""
        self.threshold_, self.expected_ = threshold_at(scores, self.false_positive_rate)
        return self

    def anomaly_score(self, pictures):
        """(n,) scores of pictures (n, h, w, c), pixels 0-255; higher is more suspicious."""
        answers = (
            _checked(name, predict_probabilities(net, pictures, input_range=self.input_range))
            for name, net in self.nets.items()
        )
        return type(self).measure(np, *answers)

    def predict(self, pictures):
        """(n,) answers: the bad net's class, or N where the score is above the threshold."""
        own = predict_labels(self.nets["bad"], pictures, input_range=self.input_range)
        return self.judged(own, self.anomaly_score(pictures))

    def judged(self, own, scores):
        """The same from the bad net's answers (n,) and the scores (n,).

        What is not finite is never trusted.
        """
        return apply_thresholds(np, own, [scores], [self.threshold_], self.classes)


def _checked(name, answers):
    """A net's answers (n, N), if those that are finite are probabilities.

    Raises:
        InputError: they are logits, sigmoids or one number for each image.
    """
    known = answers[np.isfinite(answers).all(axis=-1)]
    right = np.abs(known.sum(axis=-1) - 1) < _ROUNDING
    if answers.shape[-1] < 2 or (known < -_ROUNDING).any() or not right.all():
        raise InputError(
            f"the {name} net answers with numbers that are no probabilities of two or more "
            "classes; give it a softmax at its end (nets.outputs.as_probabilities does it)."
        )
    return answers
