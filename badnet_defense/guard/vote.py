"""Several detectors as one: a picture is flagged where any of them finds it odd enough."""

import numpy as np

from badnet_defense.guard.detector import Detector


class Vote(Detector):
    """Flags pictures that any of its members finds as odd as a joint false-alarm rate allows.

    Scores of different detectors have different scales. What counts of each is its tail: the share
    of clean pictures that score as high. A picture's score is the smallest tail's, and the joint
    threshold is set on that, so that all members together keep to the rate.

    Args:
        members: detectors of the same bad net.
        false_alarm_rate, input_range: as for `Detector`.

    Attributes:
        thresholds_: after `fit`, the members' thresholds that make up the joint one.
    """

    def __init__(self, members, **settings):
        super().__init__({"bad": members[0].nets["bad"]}, **settings)
        self.members = members

    def __repr__(self):
        return f"Vote({self.members}, false_alarm_rate={self.false_alarm_rate:g})"

    def prepare(self, pictures):
        """Lets each member take what it needs; returns the pictures left."""
        for member in self.members:
            pictures = member.prepare(pictures)
        return pictures

    def raw_scores(self, pictures):
        """(members, n) scores."""
        return np.stack([member.score_samples(pictures) for member in self.members])

    def fit_scores(self, scores):
        """The same by the members' scores (members, n) of the same pictures."""
        self._clean = [np.sort(one) for one in scores]
        count = len(self._clean[0])
        # A picture's own score stands among the clean ones: it is left out of its tail.
        above = np.stack([self._above(*pair) for pair in zip(self._clean, scores, strict=True)])
        super().fit_scores(-np.log10(above.min(axis=0) / count))
        tail = 10**-self.threshold_ * (count + 1)
        places = max(int(np.ceil(tail - 1e-6)) - 1, 1)
        self.thresholds_ = [float(clean[-places]) for clean in self._clean]
        return self

    def score_samples(self, pictures):
        """(n,) minus the decimal logarithms of the smallest tails."""
        scores = self.raw_scores(pictures)
        above = [self._above(*pair) for pair in zip(self._clean, scores, strict=True)]
        return -np.log10((1 + np.min(above, axis=0)) / (len(self._clean[0]) + 1))

    def flags(self, pictures):
        """(n,) True where any member's score is above its share of the joint threshold."""
        limits = np.array(self.thresholds_)[:, None]
        return (self.raw_scores(pictures) > limits).any(axis=0)

    @staticmethod
    def _above(clean, scores):
        """How many of the sorted clean scores are at least as high as each score."""
        return len(clean) - np.searchsorted(clean, scores, side="left")
