"""Thresholds that keep to a false-positive rate, and what rate is to be expected of them."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np

from badnet_defense.errors import InputError
from badnet_defense.evaluation.metrics import wilson_interval

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExpectedRate:
    """The fraction of clean images that will be flagged, in [0, 1].

    Attributes:
        rate: the mean.
        low, high: a 95 % interval.
        pictures: how many clean images it rests on.
        caveat: under which condition it holds at all, as half a sentence; None: under none.

    Examples:
        >>> print(ExpectedRate(0.01, 0.002, 0.024, 499))
        1.00 % (95 %: 0.20 to 2.40 %), from 499 clean images
    """

    rate: float
    low: float
    high: float
    pictures: int
    caveat: str | None = None

    def __str__(self) -> str:
        percent = [f"{100 * fraction:.2f}" for fraction in (self.rate, self.low, self.high)]
        text = "{} % (95 %: {} to {} %), from {} clean images".format(*percent, self.pictures)
        return f"{text}; this {self.caveat}" if self.caveat else text


def min_images(rate: float) -> int:
    """How many clean images a threshold at this false-positive rate takes at least.

    Examples:
        >>> min_images(0.01), min_images(0.05)
        (99, 19)
    """
    return math.ceil(1 / rate - 1e-9) - 1


def threshold_at(scores: np.ndarray, rate: float) -> tuple[float, ExpectedRate]:
    """The lowest threshold whose false-positive rate is expected to be at most `rate`.

    Of n scores of clean images and one more, each is as likely as the others to be the k-th
    largest, so an image passes the k-th largest of n with a chance of k / (n + 1), whatever the
    distribution (split conformal prediction: Papadopoulos et al., ECML 2002; the interval is that
    of Vovk, ACML 2012: the rate of a threshold drawn so is Beta(k, n + 1 - k)).

    Args:
        scores: (n,) scores of clean images that no net in the detector was tuned on.
        rate: false-positive rate, in (0, 1).

    Returns:
        (threshold, `ExpectedRate`); an image is flagged if its score is above the threshold.

    Raises:
        InputError: too few images for the rate, or scores that are no numbers.

    Examples:
        >>> threshold, expected = threshold_at(np.arange(1.0, 20.0), 0.1)
        >>> threshold, expected.rate
        (18.0, 0.1)
    """
    scores = np.asarray(scores, np.float64)
    if not np.isfinite(scores).all():
        raise InputError(
            "the models answer some clean images with NaN; expected probabilities. Check the "
            "input range."
        )
    place = places_above(len(scores), rate)
    threshold = float(np.sort(scores)[-place])
    if (tied := int(np.sum(scores == threshold))) > place:
        log.warning(
            "%d of %d clean images have exactly the score of the threshold: fewer will be flagged "
            "than expected, perhaps none",
            tied,
            len(scores),
        )
    return threshold, expected_rate(place, len(scores))


def places_above(count: int, rate: float) -> int:
    """Which of `count` scores, from the largest, is the threshold; `InputError` where none is."""
    place = math.floor(rate * (count + 1) + 1e-9)
    if place < 1:
        raise InputError(
            f"{count} clean images are left to set a threshold with; a false-positive rate of "
            f"{100 * rate:g} % takes at least {min_images(rate)}. Give more images, or ask for "
            "a higher rate."
        )
    return place


def expected_rate(place: int, count: int) -> ExpectedRate:
    """`ExpectedRate` of a threshold that is the `place`-th largest of `count` scores."""
    from scipy.stats import beta

    low, high = beta(place, count + 1 - place).ppf([0.025, 0.975])
    return ExpectedRate(place / (count + 1), float(low), float(high), count)


def measured_rate(flagged: np.ndarray) -> ExpectedRate:
    """`ExpectedRate` of a rule without a threshold, from which of n clean images it flagged."""
    flagged = np.asarray(flagged, bool)
    low, high = wilson_interval(int(flagged.sum()), len(flagged))
    return ExpectedRate(float(flagged.mean()), low, high, len(flagged))
