"""What the detectors compute, once for NumPy and for Keras' graphs: `xp` is `numpy` or `keras.ops`.

Each function takes probabilities (n, N) of one or more nets and gives (n,) scores, higher for more
suspicious pictures; infinite where an answer is not finite.
"""

from badnet_defense.nets.answers import NO_ANSWER, agreed, classes_of, finite

TINY = 1e-30
"""Probabilities below count as this; a `float32` softmax may give 0."""
NAMES = ("bad", "repaired", "expert")
"""All nets that a guard may ask, in the order in which they stand in its file."""
NETS = {
    "hard": ("bad", "repaired"),
    "nll": ("bad", "repaired"),
    "divergence": ("bad", "repaired"),
    "expert_log_ratio": ("bad", "repaired", "expert"),
    "neg_entropy": ("bad",),
    "paste_success": ("bad", "bad"),
    "takeover": ("bad", "bad"),
}
"""Whose probabilities each of the functions below takes."""
HOSTED = ("paste_success", "takeover")
"""Those that paste regions onto other pictures. Guards of version 0.1 use the first."""


def hard(xp, bad, repaired):
    """1 where the two nets answer differently or one has no answer, 0 where they agree."""
    both = agreed(xp, classes_of(xp, bad), classes_of(xp, repaired), NO_ANSWER)
    return xp.where(xp.equal(both, NO_ANSWER), 1.0, 0.0)


def nll(xp, bad, repaired):
    """How improbable the bad net's answer is to the repaired net, in nats."""
    return _known(xp, -xp.log(_answer(xp, bad, repaired)), bad, repaired)


def divergence(xp, bad, repaired):
    """Jeffreys' divergence of both nets' distributions, in nats: relative entropy both ways."""
    first, second = (xp.log(xp.maximum(one, TINY)) for one in (bad, repaired))
    return _known(xp, xp.sum((bad - repaired) * (first - second), axis=-1), bad, repaired)


def expert_log_ratio(xp, bad, repaired, expert):
    """How much surer of the bad net's answer the backdoor expert is than the repaired net, nats."""
    surer = xp.log(_answer(xp, bad, expert)) - xp.log(_answer(xp, bad, repaired))
    return _known(xp, surer, bad, repaired, expert)


def neg_entropy(xp, overlaid):
    """Minus the mean entropy in bits of (n, overlays, N) class distributions."""
    bits = -xp.sum(overlaid * xp.log(xp.maximum(overlaid, TINY)), axis=-1) / 0.6931471805599453
    return _known(xp, -xp.mean(bits, axis=-1), xp.max(overlaid, axis=-1))


def paste_success(xp, bad, carried, hosts):
    """The largest mean probability of pictures' own classes where one of their regions is pasted.

    Args:
        xp: `numpy` or `keras.ops`.
        bad: (n, N) probabilities of the pictures themselves.
        carried: (n, regions, hosts, N) those of other pictures with a region of each pasted on.
        hosts: (hosts,) classes of these other pictures; where it is the picture's own, the host
            does not count.
    """
    own = _own(xp, bad)
    given = xp.take_along_axis(carried, xp.reshape(own, (-1, 1, 1, 1)), axis=-1)[..., 0]
    differ = xp.not_equal(xp.expand_dims(own, -1), xp.expand_dims(hosts, 0))
    others = xp.where(differ, 1.0, 0.0)
    others = xp.expand_dims(others, 1)
    means = xp.sum(given * others, axis=-1) / xp.maximum(xp.sum(others, axis=-1), 1.0)
    return _known(xp, xp.max(means, axis=-1), bad, xp.max(given, axis=-1))


def takeover(xp, bad, carried, hosts):
    """How completely a picture's own class takes over where its best region is pasted, in nats.

    Minus the logarithm of the mean probability that is left for all other classes: the same order
    as `paste_success`'s, whose probabilities end at 1 in `float32` where bands of clean images and
    triggers still lie far apart (13 against 38 nats on small nets of traffic signs).

    Args:
        xp, bad, carried, hosts: as for `paste_success`.

    Returns:
        (n,) scores of at least 0, infinite where an answer is not finite.
    """
    own = _own(xp, bad)
    classes = xp.reshape(xp.arange(bad.shape[-1]), (1, 1, 1, -1))
    others = xp.where(xp.equal(xp.reshape(own, (-1, 1, 1, 1)), classes), 0.0, 1.0)
    left = xp.sum(carried * others, axis=-1)
    differ = xp.not_equal(xp.expand_dims(own, -1), xp.expand_dims(hosts, 0))
    counted = xp.expand_dims(xp.where(differ, 1.0, 0.0), 1)
    count = xp.sum(counted, axis=-1)
    means = xp.sum(left * counted, axis=-1) / xp.maximum(count, 1.0)
    means = xp.where(count > 0, means, 1.0)  # no host of another class: nothing was taken over
    found = -xp.log(xp.maximum(xp.min(means, axis=-1), TINY))
    whole = xp.isfinite(xp.sum(carried, axis=(1, 2, 3)) + xp.sum(bad, axis=-1))
    return xp.where(whole, xp.maximum(found, 0.0), float("inf"))


def apply_thresholds(xp, own, scores, thresholds, classes):
    """(n,) the suspect model's answers, or `classes` ("poisoned") where a score is too high.

    A score at its threshold passes. What is no finite number never does: a net may be made to
    overflow.

    Args:
        xp: `numpy` or `keras.ops`.
        own: (n,) of `classes_of`; where it is `NO_ANSWER`, the image is poisoned.
        scores: a sequence of (n,) scores.
        thresholds: a finite number for each of them.
        classes: N.

    Example:
        >>> import numpy as np
        >>> own = np.array([2, 0, 1])
        >>> apply_thresholds(np, own, [np.array([0.5, 0.6, np.nan])], [0.5], 3).tolist()
        [2, 3, 3]
    """
    poisoned = xp.equal(own, NO_ANSWER)
    for score, threshold in zip(scores, thresholds, strict=True):
        trusted = xp.logical_and(score > float("-inf"), score <= threshold)
        poisoned = xp.logical_or(poisoned, xp.logical_not(trusted))
    return xp.where(poisoned, xp.full_like(own, classes), own)


def _own(xp, bad):
    """(n,) the bad net's classes, with 0 where it has none: the score is infinite there anyway."""
    return xp.maximum(classes_of(xp, bad), 0)


def _answer(xp, bad, other):
    """(n,) what another net thinks of the bad net's answer."""
    own = xp.expand_dims(_own(xp, bad), -1)
    return xp.maximum(xp.take_along_axis(other, own, axis=-1)[:, 0], TINY)


def _known(xp, score, *answers):
    """The scores (n,), infinite where one of the answers (n, ..) that they rest on is not finite.

    An image of which a net says nothing is the most suspicious of all.
    """
    for one in answers:
        score = xp.where(finite(xp, one), score, float("inf"))
    return score
