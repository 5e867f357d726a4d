"""Several detectors as one: an image is flagged where one of them exceeds its threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from badnet_defense.detectors.base import DEFAULTS, Detector, DetectorConfig
from badnet_defense.detectors.calibration import expected_rate, places_above
from badnet_defense.detectors.registry import DETECTORS
from badnet_defense.errors import InputError


@DETECTORS.register(
    "vote",
    summary="soft or sentinet exceeds its threshold, which are jointly calibrated",
    config=DetectorConfig,
    score="minus decimal logarithm of the smallest tail",
    members=("soft", "sentinet"),
)
class Vote(Detector):
    """Flags images that any of its members scores as high as a joint false-positive rate allows.

    Scores of different detectors have different scales. What counts of each is its tail: the
    fraction of clean images that score as high. An image's score is the smallest tail's, and the
    joint threshold is set on that, so that all members together keep to the rate.

    Args:
        members: detectors of the same suspect model.
        config: settings; the members' own rates have no effect.

    Attributes:
        thresholds_: after `fit`, the members' thresholds that make up the joint one.

    Examples:
        >>> from badnet_defense.detectors import make_detector
        >>> from badnet_defense.nets import deep_id, describe
        >>> net = describe(deep_id(classes=10))
        >>> vote = Vote([make_detector(one, {"suspect": net}) for one in ("strip", "sentinet")])
        >>> len(vote.members)
        2
    """

    def __init__(self, members: Sequence[Detector], *, config: DetectorConfig = DEFAULTS) -> None:
        super().__init__({"suspect": members[0].suspect}, config)
        self.members = list(members)
        self.thresholds_: list[float]

    def __repr__(self) -> str:
        return f"Vote({self.members}, false_positive_rate={self.config.false_positive_rate})"

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """Lets each member take what it needs; returns the images left."""
        for member in self.members:
            images = member.prepare(images)
        return images

    def raw_scores(self, images: np.ndarray) -> np.ndarray:
        """(members, n) scores."""
        return np.stack([member.anomaly_score(images) for member in self.members])

    def fit_scores(self, scores: np.ndarray) -> Vote:
        """Sets the joint threshold with the members' scores (members, n) of the same clean images.

        Members rank images differently, so more than r images are among the r most anomalous of
        any member: r is the largest number for which no more than the rate allows are.

        Raises:
            InputError: even the members' single most anomalous images are too many.
        """
        self._clean = [np.sort(one) for one in scores]
        count = len(self._clean[0])
        ranks = np.sort(self._above(scores).min(axis=0))  # 1 is the most anomalous of all
        rate = self.config.false_positive_rate
        allowed = places_above(count, rate)
        rank = int(ranks[allowed]) - 1 if allowed < count else count
        if rank < 1:
            raise InputError(
                f"a joint threshold of {len(self.members)} detectors at a false-positive rate of "
                f"{100 * rate:g} % needs more clean images, got {count}; give more images, or ask "
                "for a higher rate."
            )
        self.expected_ = expected_rate(int(np.sum(ranks <= rank)), count)
        self.threshold_ = float(-np.log10((rank + 0.5) / (count + 1)))
        self.thresholds_ = [float(clean[-rank]) for clean in self._clean]
        return self

    def combined(self, scores: np.ndarray) -> np.ndarray:
        """(n,) minus the decimal logarithms of the smallest tails, of the members' scores."""
        above = self._above(scores).min(axis=0)
        return -np.log10((1 + above) / (len(self._clean[0]) + 1))

    def anomaly_score(self, images: np.ndarray) -> np.ndarray:
        """(n,) minus the decimal logarithms of the smallest tails; higher is more anomalous."""
        return self.combined(self.raw_scores(images))

    def _above(self, scores: np.ndarray) -> np.ndarray:
        """(members, n): how many of the clean scores are at least as high as each score."""
        pairs = zip(self._clean, scores, strict=True)
        return np.stack([len(clean) - np.searchsorted(clean, score) for clean, score in pairs])
