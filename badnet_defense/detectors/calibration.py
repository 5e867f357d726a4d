"""Thresholds that keep to a false-alarm rate, and what rate is to be expected of them."""

import logging
import math
from dataclasses import dataclass

import numpy as np

from badnet_defense.errors import InputError
from badnet_defense.evaluation.metrics import wilson_interval

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Expected:
    """The share of honest pictures that will be flagged, in [0, 1].

    Attributes:
        rate: the mean.
        low, high: a 95 % interval.
        pictures: how many clean pictures it rests on.
        caveat: under which condition it holds at all, as half a sentence; None: under none.
    """

    rate: float
    low: float
    high: float
    pictures: int
    caveat: str | None = None

    def __str__(self):
        percent = [f"{100 * share:.2f}" for share in (self.rate, self.low, self.high)]
        text = "{} % (95 %: {} to {} %), from {} clean pictures".format(*percent, self.pictures)
        return f"{text}; this {self.caveat}" if self.caveat else text


def min_images(rate):
    """How many clean pictures a threshold at this false-alarm rate takes at least."""
    return math.ceil(1 / rate - 1e-9) - 1


def threshold_at(scores, rate):
    """The lowest threshold whose false-alarm rate is expected to be at most `rate`.

    Of n scores of honest pictures and one more, each is as likely as the others to be the k-th
    largest, so a picture passes the k-th largest of n with a chance of k / (n + 1), whatever the
    distribution (split conformal prediction: Papadopoulos et al., ECML 2002; the interval is that
    of Vovk, ACML 2012: the rate of a threshold drawn so is Beta(k, n + 1 - k)).

    Args:
        scores: (n,) scores of clean pictures that no net in the detector was tuned on.
        rate: false-alarm rate, in (0, 1).

    Returns:
        (threshold, `Expected`); a picture is flagged if its score is above the threshold.

    Raises:
        InputError: too few pictures for the rate, or scores that are no numbers.
    """
    scores = np.asarray(scores, np.float64)
    if not np.isfinite(scores).all():
        raise InputError(
            "the nets answer some clean pictures with NaN; expected probabilities. Is "
            "--input-range right?"
        )
    place = places_above(len(scores), rate)
    threshold = float(np.sort(scores)[-place])
    if (tied := int(np.sum(scores == threshold))) > place:
        log.warning(
            "%d of %d clean pictures have the very score of the threshold: fewer will be flagged "
            "than expected, perhaps none",
            tied,
            len(scores),
        )
    return threshold, expected_rate(place, len(scores))


def places_above(count, rate):
    """Which of `count` scores, from the largest, is the threshold; `InputError` where none is."""
    place = math.floor(rate * (count + 1) + 1e-9)
    if place < 1:
        raise InputError(
            f"{count} clean images are left to set a threshold with; a false-positive rate of "
            f"{100 * rate:g} % takes at least {min_images(rate)}. Give more images, or ask for "
            "a higher rate."
        )
    return place


def expected_rate(place, count):
    """`Expected` of a threshold that is the `place`-th largest of `count` scores."""
    from scipy.stats import beta

    low, high = beta(place, count + 1 - place).ppf([0.025, 0.975])
    return Expected(place / (count + 1), float(low), float(high), count)


def seen_rate(flagged):
    """`Expected` of a rule that has no threshold, from which of n clean pictures it flagged."""
    flagged = np.asarray(flagged, bool)
    low, high = wilson_interval(int(flagged.sum()), len(flagged))
    return Expected(float(flagged.mean()), low, high, len(flagged))
