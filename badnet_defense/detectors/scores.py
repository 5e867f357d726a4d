"""What the detectors compute, once for NumPy and for Keras' graphs: `xp` is `numpy` or `keras.ops`.

Each measure takes probabilities (n, N) of one or more nets and gives (n,) scores, higher for more
anomalous images; infinite where an answer is not finite.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from badnet_defense.nets.answers import NO_ANSWER, agreed, classes_of, finite

TINY = 1e-30
"""Probabilities below count as this; a `float32` softmax may give 0."""


def apply_thresholds(
    xp: Any, answers: Any, scores: Sequence[Any], thresholds: Sequence[float], classes: int
) -> Any:
    """The suspect model's answers, or N ("poisoned") where a score is above its threshold.

    A score at its threshold passes. What is no finite number never does, nor does no answer at all:
    a net may be made to overflow.

    Args:
        xp: `numpy` or `keras.ops`.
        answers: (n,) of `classes_of`; where it is `NO_ANSWER`, the image is poisoned.
        scores: (n,) scores of one or more detectors.
        thresholds: a finite number for each of them.
        classes: N.

    Returns:
        (n,) whole numbers 0..N.

    Examples:
        >>> import numpy as np
        >>> scores = np.array([0.4, 0.5, 0.6, np.nan])
        >>> apply_thresholds(np, np.array([1, 2, 3, 4]), [scores], [0.5], 10).tolist()
        [1, 2, 10, 10]
    """
    poisoned = xp.equal(answers, NO_ANSWER)
    for score, threshold in zip(scores, thresholds, strict=True):
        trusted = xp.logical_and(score > float("-inf"), score <= threshold)
        poisoned = xp.logical_or(poisoned, xp.logical_not(trusted))
    return xp.where(poisoned, xp.full_like(answers, classes), answers)


def hard(xp: Any, suspect: Any, repaired: Any) -> Any:
    """1 where the two models answer differently or one has no answer, 0 where they agree."""
    both = agreed(xp, classes_of(xp, suspect), classes_of(xp, repaired), NO_ANSWER)
    return xp.where(xp.equal(both, NO_ANSWER), 1.0, 0.0)


def nll(xp: Any, suspect: Any, repaired: Any) -> Any:
    """How improbable the suspect model's answer is to the repaired model, in nats."""
    return _known(xp, -xp.log(_answer(xp, suspect, repaired)), suspect, repaired)


def divergence(xp: Any, suspect: Any, repaired: Any) -> Any:
    """Jeffreys' divergence of both models' distributions, in nats: relative entropy both ways."""
    first, second = (xp.log(xp.maximum(one, TINY)) for one in (suspect, repaired))
    return _known(xp, xp.sum((suspect - repaired) * (first - second), axis=-1), suspect, repaired)


def expert_log_ratio(xp: Any, suspect: Any, repaired: Any, expert: Any) -> Any:
    """The log-confidence ratio of expert and repaired model in the suspect model's answer, nats."""
    ratio = xp.log(_answer(xp, suspect, expert)) - xp.log(_answer(xp, suspect, repaired))
    return _known(xp, ratio, suspect, repaired, expert)


def neg_entropy(xp: Any, overlaid: Any) -> Any:
    """Minus the mean entropy in bits of (n, overlays, N) class distributions."""
    bits = -xp.sum(overlaid * xp.log(xp.maximum(overlaid, TINY)), axis=-1) / 0.6931471805599453
    return _known(xp, -xp.mean(bits, axis=-1), xp.max(overlaid, axis=-1))


def takeover(xp: Any, suspect: Any, carried: Any, hosts: Any) -> Any:
    """How completely an image's own class takes over where its best region is pasted, in nats.

    Minus the logarithm of the mean probability that is left for all other classes: the image's own
    probability ends at 1 in `float32` where bands of clean images and triggers still lie far apart
    (13 against 38 nats on small nets of traffic signs).

    Args:
        xp: `numpy` or `keras.ops`.
        suspect: (n, N) probabilities of the images themselves.
        carried: (n, regions, hosts, N) those of other images with a region of each pasted on.
        hosts: (hosts,) classes of these other images; where it is the image's own, the host
            does not count.

    Returns:
        (n,) scores of at least 0, infinite where an answer is not finite.
    """
    own = _own(xp, suspect)
    classes = xp.reshape(xp.arange(suspect.shape[-1]), (1, 1, 1, -1))
    others = xp.where(xp.equal(xp.reshape(own, (-1, 1, 1, 1)), classes), 0.0, 1.0)
    left = xp.sum(carried * others, axis=-1)
    differ = xp.not_equal(xp.expand_dims(own, -1), xp.expand_dims(hosts, 0))
    counted = xp.expand_dims(xp.where(differ, 1.0, 0.0), 1)
    count = xp.sum(counted, axis=-1)
    means = xp.sum(left * counted, axis=-1) / xp.maximum(count, 1.0)
    means = xp.where(count > 0, means, 1.0)  # no host of another class: nothing was taken over
    found = -xp.log(xp.maximum(xp.min(means, axis=-1), TINY))
    whole = xp.isfinite(xp.sum(carried, axis=(1, 2, 3)) + xp.sum(suspect, axis=-1))
    return xp.where(whole, xp.maximum(found, 0.0), float("inf"))


def _own(xp: Any, suspect: Any) -> Any:
    """(n,) the suspect model's classes; 0 where it has none: the score is infinite there anyway."""
    return xp.maximum(classes_of(xp, suspect), 0)


def _answer(xp: Any, suspect: Any, other: Any) -> Any:
    """(n,) the probability that another net gives to the suspect model's answer."""
    own = xp.expand_dims(_own(xp, suspect), -1)
    return xp.maximum(xp.take_along_axis(other, own, axis=-1)[:, 0], TINY)


def _known(xp: Any, score: Any, *answers: Any) -> Any:
    """The scores (n,), infinite where one of the answers (n, ..) that they rest on is not finite.

    An image of which a net says nothing is the most anomalous of all.
    """
    for one in answers:
        score = xp.where(finite(xp, one), score, float("inf"))
    return score
