"""Which labels' triggers are suspiciously small: robust outliers on the small side."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

CONSISTENCY = 1.4826
"""Makes the median absolute deviation of normal numbers their standard deviation."""
MAD_LIMIT = 2.0
"""Anomaly index above which Neural Cleanse flags a label."""
FALSE_ALARMS = 0.05
"""Share of nets without a backdoor, their norms log-normal, of which a label is flagged."""
_SIMULATED = 2000
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
    """

    median: float
    mad: float
    index: np.ndarray
    limit: float
    flagged: tuple[int, ...]


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
    nets, found by simulation, since with few labels the deviation itself is uncertain.

    Args:
        norms, sample: as for `mad_outliers`.
        area: pixels of a picture.
    """
    share = np.clip(np.asarray(norms, np.float64) / area, _LEAST_SHARE, _MOST_SHARE)
    values = np.log(share / (1 - share))
    return _outliers(values, sample, simulated_limit(len(values), len(values[sample])))


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
        return _outliers(values, sample, simulated_limit(*sizes))
    limit = simulated_limit(*sizes, FALSE_ALARMS / 2)
    masks = _outliers(values, sample, limit)
    both = _outliers(-masks.index - weights, sample, limit)
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


def _outliers(values, sample, limit):
    median, mad = _median_and_mad(values[sample])
    # Where more than half are equal the deviation is 0, and whatever lies below is an outlier.
    index = (median - values) / max(mad, 1e-9 * (1 + abs(median)))
    return Outliers(float(median), float(mad), index, float(limit), _above(index, limit))


def _above(index, limit):
    """Positions of the indices above the limit, the largest first."""
    order = np.argsort(-index, kind="stable")
    return tuple(int(one) for one in order if index[one] > limit)
