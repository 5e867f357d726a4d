"""Which labels' triggers are suspiciously small: robust outliers on the small side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np

Positions = Any
"""What an array is indexed by: a slice, positions or a mask."""

CONSISTENCY = 1.4826
"""Makes the median absolute deviation of normal numbers their standard deviation."""
MAD_LIMIT = 2.0
"""Anomaly index above which Neural Cleanse flags a label."""
FALSE_POSITIVE_RATE = 0.05
"""Fraction of nets without a backdoor, their norms log-normal, of which a label is flagged."""
_SIMULATED = 2000
FLOOR, SUM_FLOOR = 0.3, 1.0
"""Deviations of log-odds, and of sums of two indices, that are taken at least. Triggers of a clean
net may all have nearly one size; without a floor what is a seventh smaller stands out by far."""
GROUP_FACTOR = 1.25
"""Factor on a pass's `min_gap` where several labels are smaller together: classes of a clean net
come in groups, too."""
MIN_INDEX = 0.6
"""Fraction of `known_limit` that the index of a label which one pass flags alone has at least. From
there to the whole limit the distance to the next label makes up for it: the product of both
counts."""
INDEX_GAP = 0.25
"""How much smaller than the next label's, in log-odds and in any pass, the trigger of a label must
be that the joint index flags."""
MAX_TARGETS = 1 / 3
"""Fraction of the labels that may stand out from the others together."""
_MIN_DEVIATION = 0.01  # of the median: what is left of a degenerate deviation elsewhere
_MIN_SHARE, _MAX_SHARE = 1e-30, 0.99  # log-odds of nothing and of the whole are infinite
NEVER = 1e12
"""A limit that no index exceeds; JSON knows no infinity."""


@dataclass(frozen=True)
class Outliers:
    """Outliers among L norms.

    Attributes:
        median, mad: of the norms (for `odds_outliers` of the log-odds of the masked fractions, for
            sums of indices and of weights of minus those); `mad` includes the consistency constant.
        index: (L,) anomaly indices: deviations below the median (above: negative).
        limit: an index above this is an outlier.
        flagged: positions of the outliers, smallest norm first.
        values: (L,) what the indices are computed from, small where a label stands out.
    """

    median: float
    mad: float
    index: np.ndarray
    limit: float
    flagged: tuple[int, ...]
    values: np.ndarray = field(repr=False)


def mad_outliers(norms: Any, sample: Positions = slice(None)) -> Outliers:
    """Neural Cleanse's rule: more than 2 deviations (MAD x 1.4826) below the median.

    Args:
        norms: (L,) positive L1 norms.
        sample: positions of the norms whose median and MAD are taken, drawn at random; default:
            all. Labels that stopped early have no norm of the same effort, so their bounds stay
            out of it: bounds lie closer together than norms, and would make every index too large.

    Examples:
        >>> found = mad_outliers([50.0, 52, 49, 51, 20])
        >>> found.flagged, round(float(found.index[4]), 2)
        ((4,), 20.23)
    """
    return _outliers(np.asarray(norms, np.float64), sample, MAD_LIMIT)


def odds_outliers(norms: Any, area: float, sample: Positions = slice(None)) -> Outliers:
    """The same on the log-odds of the masked fraction, with a limit for the number of labels.

    The norms of clean labels spread by factors where they are small, so that a trigger a tenth of
    the usual size stands out as it should, where plain MAD ends at median / MAD. Near the whole
    image they can grow no further and crowd together, which makes logarithms alone see outliers
    in what is merely not as large. And of 1283 clean labels about thirty lie two deviations below
    the median: the limit is the index that the smallest of L normal numbers passes once in twenty
    nets, found by simulation, since with few labels the deviation itself is uncertain. It is
    `FLOOR` at least.

    Args:
        norms, sample: as for `mad_outliers`.
        area: pixels of an image.
    """
    share = np.clip(np.asarray(norms, np.float64) / area, _MIN_SHARE, _MAX_SHARE)
    values = np.log(share / (1 - share))
    return _outliers(values, sample, simulated_limit(len(values), len(values[sample])), FLOOR)


def weight_outliers(sums: Any) -> Outliers:
    """The same on (L,) scores of a net's weights, as they stand, and on the large side."""
    values = -np.asarray(sums, np.float64)
    return _outliers(values, slice(None), simulated_limit(len(values), len(values)))


def joint_outliers(
    passes: Sequence[np.ndarray],
    weights: Sequence[np.ndarray] = (),
    sample: Positions = slice(None),
) -> Outliers:
    """Outliers by the indices of several inversion passes together, and with those of the weights.

    What one pass finds small by chance, or because it is natural there, seldom is in the other, so
    their sum counts, on the scale that the sample gives it. What the weights say comes from
    elsewhere: the sum of both counts, too, on its scale. The largest of these indices decides, each
    with an equal part of the false positives: a backdoor need not show in the weights.

    Args:
        passes: (L,) anomaly indices of each inversion pass.
        weights: (L,) anomaly indices of each weights pass that has any.
        sample: as for `mad_outliers`.

    Returns:
        `Outliers`, whose median and MAD are those of minus the passes' sums.
    """
    values = -np.sum(passes, axis=0)
    rate = FALSE_POSITIVE_RATE / (1 + len(weights))
    limit = simulated_limit(len(values), len(values[sample]), rate)
    masks = _outliers(values, sample, limit, SUM_FLOOR)
    sums = [_outliers(-masks.index - index, sample, limit, SUM_FLOOR).index for index in weights]
    index = np.max([masks.index, *sums], axis=0)
    return replace(masks, index=index, flagged=_above(index, limit))


@cache
def simulated_limit(
    labels: int, sample: int, false_positive_rate: float = FALSE_POSITIVE_RATE
) -> float:
    """The index that the smallest of so many normal numbers exceeds in a fraction of all nets.

    The median and the deviation are those of the first `sample` numbers. Fewer than three have no
    outlier: a limit that nothing exceeds.
    """
    if sample < 3:
        return NEVER
    rng = np.random.default_rng(0)
    largest = []
    for _ in range(_SIMULATED):
        values = rng.standard_normal(labels)
        median, deviation = _median_and_mad(values[:sample])
        largest.append((median - values.min()) / deviation)
    return float(np.quantile(largest, 1 - false_positive_rate))


def _median_and_mad(values: np.ndarray) -> tuple[float, float]:
    median = np.median(values)
    return float(median), float(CONSISTENCY * np.median(np.abs(values - median)))


def known_limit(labels: int, false_positive_rate: float = FALSE_POSITIVE_RATE) -> float:
    """The index that the smallest of so many numbers exceeds so often, of a known deviation.

    Examples:
        >>> round(known_limit(1), 3), round(known_limit(10), 3)
        (1.645, 2.568)
    """
    return NormalDist().inv_cdf((1 - false_positive_rate) ** (1 / labels))


def far_smaller(
    outliers: Outliers, min_gap: float, finished: Positions = slice(None)
) -> tuple[int, ...]:
    """Positions of the labels that one pass flags alone, the smallest first.

    They are the smallest together: smaller than every other label by `min_gap` or more (several by
    `GROUP_FACTOR` times that), with an index above `known_limit`, or by so much more as the index
    lacks.

    Args:
        outliers: of log-odds.
        min_gap: in log-odds.
        finished: positions, or a mask, of the labels that went all the way; the others' bounds,
            what they could at best have fallen to, are no triggers to be compared with. Default:
            all.
    """
    places = np.arange(len(outliers.values))[finished]
    order = places[np.argsort(outliers.values[places], kind="stable")]
    limit = known_limit(len(outliers.values))
    group: tuple[int, ...] = ()
    for count in range(1, min(max(1, int(MAX_TARGETS * len(order))), len(order) - 1) + 1):
        index = outliers.index[order[count - 1]]
        if outliers.limit == NEVER or index < MIN_INDEX * limit:
            break
        distance = outliers.values[order[count]] - outliers.values[order[count - 1]]
        needed = min_gap if count == 1 else GROUP_FACTOR * min_gap
        if distance >= needed and distance * index >= needed * limit:
            group = tuple(order[:count].tolist())
    return group


def gaps_to_next(
    outliers: Outliers, flagged: Sequence[int], finished: Positions = slice(None)
) -> dict[int, float]:
    """{position: how much smaller its trigger is than every one that is no outlier, in log-odds}.

    Args:
        outliers: of log-odds.
        flagged: positions of the outliers.
        finished: as for `far_smaller`.
    """
    others = np.setdiff1d(np.arange(len(outliers.values))[finished], flagged)
    smallest = outliers.values[others].min(initial=np.inf)
    return {place: float(smallest - outliers.values[place]) for place in flagged}


def _outliers(values: np.ndarray, sample: Positions, limit: float, floor: float = 0.0) -> Outliers:
    median, mad = _median_and_mad(values[sample])
    # Where more than half are equal the deviation is 0, and whatever lies below is an outlier.
    index = (median - values) / max(mad, floor, _MIN_DEVIATION * abs(median), 1e-9)
    return Outliers(float(median), float(mad), index, float(limit), _above(index, limit), values)


def _above(index: np.ndarray, limit: float) -> tuple[int, ...]:
    """Positions of the indices above the limit, the largest first."""
    order = np.argsort(-index, kind="stable")
    return tuple(int(place) for place in order if index[place] > limit)
