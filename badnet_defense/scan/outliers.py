"""Which labels' triggers are suspiciously small: robust outliers on the small side."""

from dataclasses import dataclass
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
            `joint_outliers` of minus the sums); `mad` carries the consistency constant.
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


def joint_outliers(looks, sample=slice(None)):
    """Outliers by the sum of several looks' anomaly indices, on the scale that the sample gives it.

    What one look finds small by chance, or because it is natural there, seldom is in the other.

    Args:
        looks: (looks, L) anomaly indices.
        sample: as for `mad_outliers`.
    """
    values = -np.sum(looks, axis=0)
    return _outliers(values, sample, simulated_limit(len(values), len(values[sample])))


@cache
def simulated_limit(labels, sample):
    """The index that the smallest of so many normal numbers passes in `FALSE_ALARMS` of all nets.

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
    return float(np.quantile(largest, 1 - FALSE_ALARMS))


def _median_and_mad(values):
    median = np.median(values)
    return median, CONSISTENCY * np.median(np.abs(values - median))


def _outliers(values, sample, limit):
    median, mad = _median_and_mad(values[sample])
    # Where more than half are equal the deviation is 0, and whatever lies below is an outlier.
    index = (median - values) / max(mad, 1e-9 * (1 + abs(median)))
    order = np.argsort(values, kind="stable")
    flagged = tuple(int(one) for one in order if index[one] > limit)
    return Outliers(float(median), float(mad), index, float(limit), flagged)
