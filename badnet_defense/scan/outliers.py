"""Which labels' triggers are suspiciously small: robust outliers on the small side."""

from dataclasses import dataclass, field, replace
from functools import cache
from statistics import NormalDist

import numpy as np

CONSISTENCY = 1.4826
"""Makes the median absolute deviation of normal numbers their standard deviation."""
MAD_LIMIT = 2.0
"""Anomaly index above which Neural Cleanse flags a label."""
FALSE_ALARMS = 0.05
"""Share of nets without a backdoor, their norms log-normal, of which a label is flagged."""
_SIMULATED = 2000
FLOOR, SUM_FLOOR = 0.3, 1.0
"""Deviations of log-odds, and of sums of two indices, that are taken at least. Triggers of a clean
net may all have nearly one size; without a floor what is a seventh smaller stands out by far."""
GAP, SMOOTH_GAP = 0.6, 1.3
"""How much smaller, in log-odds, than the next label's a trigger must be to be flagged by the
sharp or the smooth pass alone: 0.6 is not much more than half its pixels. Smooth triggers of clean
nets differ more: one blob turns any digit into an 8."""
GROUP = 1.25
"""Times that, where several are smaller together: classes of a clean net come in groups, too."""
LEAST_INDEX = 0.6
"""Share of `known_limit` that such a trigger's index has at least. From there to the whole limit
the distance to the next label makes up for it: the product of both counts."""
INDEX_GAP = 0.25
"""The same, in either pass, for what the index flags."""
MOST_TARGETS = 1 / 3
"""Share of the labels that may stand out from the others together."""
_LEAST_DEVIATION = 0.01  # of the median: what is left of a degenerate deviation elsewhere
_LEAST_SHARE, _MOST_SHARE = 1e-30, 0.99  # log-odds of nothing and of the whole are infinite
NEVER = 1e12
"""A limit that no index passes; JSON knows no infinity."""


@dataclass(frozen=True)
class Outliers:
    """Outliers among L norms.

    Attributes:
        median, mad: of the norms (for `odds_outliers` of the log-odds of the masked shares, for
            sums of indices and of weights of minus those); `mad` carries the consistency constant.
        index: (L,) anomaly indices: deviations below the median (above: negative).
        limit: an index above this is an outlier.
        flagged: positions of the outliers, smallest norm first.
        values: (L,) what the indices were made of, small where a label stands out.
    """

    median: float
    mad: float
    index: np.ndarray
    limit: float
    flagged: tuple[int, ...]
    values: np.ndarray = field(repr=False)


def mad_outliers(norms, sample=slice(None)):
    """Neural Cleanse's rule: more than 2 deviations (MAD x 1.4826) below the median.

    Args:
        norms: (L,) positive L1 norms.
        sample: positions of the norms whose median and MAD are taken, drawn at random; default:
            all. Labels that stopped early have no norm of the same effort, so their bounds stay
            out of it: bounds lie closer together than norms, and would make every index too large.
    """
    return _outliers(np.asarray(norms, np.float64), sample, MAD_LIMIT)


def odds_outliers(norms, area, sample=slice(None)):
    """The same on the log-odds of the masked share, with a limit for the number of labels.

    The norms of clean labels spread by factors where they are small, so that a trigger a tenth of
    the usual size stands out as it should, where plain MAD ends at median / MAD. Near the whole
    picture they can grow no further and crowd together, which makes logarithms alone see outliers
    in what is merely not as large. And of 1283 clean labels about thirty lie two deviations below
    the median: the limit is the index that the smallest of L normal numbers passes once in twenty
    nets, found by simulation, since with few labels the deviation itself is uncertain. It is
    `FLOOR` at least.

    Args:
        norms, sample: as for `mad_outliers`.
        area: pixels of a picture.
    """
    share = np.clip(np.asarray(norms, np.float64) / area, _LEAST_SHARE, _MOST_SHARE)
    values = np.log(share / (1 - share))
    return _outliers(values, sample, simulated_limit(len(values), len(values[sample])), FLOOR)


def weight_outliers(sums):
    """The same on (L,) sums of weights, as they stand, and on the large side."""
    values = -np.asarray(sums, np.float64)
    return _outliers(values, slice(None), simulated_limit(len(values), len(values)))


def joint_outliers(looks, weights=None, sample=slice(None)):
    """Outliers by several looks' indices together, and with those of the weights.

    What one look finds small by chance, or because it is natural there, seldom is in the other,
    so their sum counts, on the scale that the sample gives it. What the weights say comes from
    elsewhere: the sum of both, too, on its scale. Of the two indices the larger decides, each with
    half of the false alarms: a backdoor need not show in the weights.

    Args:
        looks: (looks, L) anomaly indices.
        weights: (L,) anomaly indices of the weights; None where there are none.
        sample: as for `mad_outliers`.

    Returns:
        `Outliers`, whose median and MAD are those of minus the looks' sums.
    """
    values = -np.sum(looks, axis=0)
    sizes = len(values), len(values[sample])
    if weights is None:
        return _outliers(values, sample, simulated_limit(*sizes), SUM_FLOOR)
    limit = simulated_limit(*sizes, FALSE_ALARMS / 2)
    masks = _outliers(values, sample, limit, SUM_FLOOR)
    both = _outliers(-masks.index - weights, sample, limit, SUM_FLOOR)
    index = np.maximum(masks.index, both.index)
    return replace(masks, index=index, flagged=_above(index, limit))


@cache
def simulated_limit(labels, sample, false_alarms=FALSE_ALARMS):
    """The index that the smallest of so many normal numbers passes in a share of all nets.

    The median and the deviation are those of the first `sample` numbers. Fewer than three have no
    outlier: a limit that nothing passes.
    """
    if sample < 3:
        return NEVER
    rng = np.random.default_rng(0)
    largest = []
    for _ in range(_SIMULATED):
        values = rng.standard_normal(labels)
        median, deviation = _median_and_mad(values[:sample])
        largest.append((median - values.min()) / deviation)
    return float(np.quantile(largest, 1 - false_alarms))


def _median_and_mad(values):
    median = np.median(values)
    return median, CONSISTENCY * np.median(np.abs(values - median))


def known_limit(labels, false_alarms=FALSE_ALARMS):
    """The index that the smallest of so many numbers passes so often, of a known deviation."""
    return NormalDist().inv_cdf((1 - false_alarms) ** (1 / labels))


def far_smaller(look, gap, going=slice(None)):
    """Positions of the labels that one pass flags alone, the smallest first.

    They are the smallest together: smaller than every other label by `gap` or more (several by
    `GROUP` times that), with an index above `known_limit`, or by so much more as the index lacks.

    Args:
        look: `Outliers` of log-odds.
        gap: in log-odds.
        going: positions, or a mask, of the labels that went all the way; the others' bounds, what
            they could at best have fallen to, are no triggers to be compared with. Default: all.
    """
    places = np.arange(len(look.values))[going]
    order = places[np.argsort(look.values[places], kind="stable")]
    limit, group = known_limit(len(look.values)), ()
    for count in range(1, min(max(1, int(MOST_TARGETS * len(order))), len(order) - 1) + 1):
        index = look.index[order[count - 1]]
        if look.limit == NEVER or index < LEAST_INDEX * limit:
            break
        distance = look.values[order[count]] - look.values[order[count - 1]]
        needed = gap if count == 1 else GROUP * gap
        if distance >= needed and distance * index >= needed * limit:
            group = tuple(order[:count].tolist())
    return group


def smaller_by(look, outliers, going=slice(None)):
    """{position: how much smaller its trigger is than every one that is no outlier, in log-odds}.

    Args:
        look: `Outliers` of log-odds.
        outliers: positions.
        going: as for `far_smaller`.
    """
    others = np.setdiff1d(np.arange(len(look.values))[going], outliers)
    next_one = look.values[others].min(initial=np.inf)
    return {one: float(next_one - look.values[one]) for one in outliers}


def _outliers(values, sample, limit, floor=0.0):
    median, mad = _median_and_mad(values[sample])
    # Where more than half are equal the deviation is 0, and whatever lies below is an outlier.
    index = (median - values) / max(mad, floor, _LEAST_DEVIATION * abs(median), 1e-9)
    return Outliers(float(median), float(mad), index, float(limit), _above(index, limit), values)


def _above(index, limit):
    """Positions of the indices above the limit, the largest first."""
    order = np.argsort(-index, kind="stable")
    return tuple(int(one) for one in order if index[one] > limit)
