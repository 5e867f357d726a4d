"""Several detectors as one: a picture is flagged where any of them finds it odd enough."""

import numpy as np

from badnet_defense.detectors.base import Detector
from badnet_defense.detectors.calibration import expected_rate, places_above
from badnet_defense.errors import InputError


class Vote(Detector):
    """Flags pictures that any of its members finds as odd as a joint false-alarm rate allows.

    Scores of different detectors have different scales. What counts of each is its tail: the share
    of clean pictures that score as high. A picture's score is the smallest tail's, and the joint
    threshold is set on that, so that all members together keep to the rate.

    Args:
        members: detectors of the same bad net.
        false_positive_rate, input_range: as for `Detector`.

    Attributes:
        thresholds_: after `fit`, the members' thresholds that make up the joint one.
    """

    def __init__(self, members, **settings):
        super().__init__({"bad": members[0].nets["bad"]}, **settings)
        self.members = members

    def __repr__(self):
        return f"Vote({self.members}, false_positive_rate={self.false_positive_rate:g})"

    def prepare(self, pictures):
        """Lets each member take what it needs; returns the pictures left."""
        for member in self.members:
            pictures = member.prepare(pictures)
        return pictures

    def raw_scores(self, pictures):
        """(members, n) scores."""
        return np.stack([member.anomaly_score(pictures) for member in self.members])

    def fit_scores(self, scores):
        """Sets the joint threshold by the members' scores (members, n) of the same pictures.

        Members rank pictures differently, so more than r pictures are among the r oddest of any
        member: r is the largest number for which no more than the rate allows are.

        Raises:
            InputError: even the members' single oddest pictures are too many.
        """
        self._clean = [np.sort(one) for one in scores]
        count = len(self._clean[0])
        ranks = np.sort(self._above(scores).min(axis=0))  # 1 is the oddest of all
        allowed = places_above(count, self.false_positive_rate)
        rank = int(ranks[allowed]) - 1 if allowed < count else count
        if rank < 1:
            raise InputError(
                f"{count} clean pictures came to set a joint threshold of {len(self.members)} "
                f"detectors with; a false-alarm rate of {self.false_positive_rate:g} takes more."
            )
        self.expected_ = expected_rate(int(np.sum(ranks <= rank)), count)
        self.threshold_ = float(-np.log10((rank + 0.5) / (count + 1)))
        self.thresholds_ = [float(clean[-rank]) for clean in self._clean]
        return self

    def anomaly_score(self, pictures):
        """(n,) minus the decimal logarithms of the smallest tails."""
        above = self._above(self.raw_scores(pictures)).min(axis=0)
        return -np.log10((1 + above) / (len(self._clean[0]) + 1))

    def _above(self, scores):
        """(members, n): how many of the clean scores are at least as high as each score."""
        pairs = zip(self._clean, scores, strict=True)
        return np.stack([len(one) - np.searchsorted(one, found) for one, found in pairs])
