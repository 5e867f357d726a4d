"""Splits of a data set that keep each class in both parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from badnet_defense.errors import InputError


def split_within_classes(
    labels: np.ndarray, fraction: float, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """(indices of the larger part, indices of the held-out part), both sorted.

    Of each class with two and more images the rounded `fraction` is held out, at least one; a class
    with a single image stays in the larger part. Where no class has two, the fraction is drawn from
    all images.

    Args:
        labels: (n,) class numbers.
        fraction: of each class, in (0, 1).
        seed: which images are drawn.

    Raises:
        InputError: fewer than two images.

    Examples:
        >>> import numpy as np
        >>> from badnet_defense.io.splits import split_within_classes
        >>> larger, held_out = split_within_classes(np.array([0, 0, 0, 1, 1]), 0.3)
        >>> len(larger), len(held_out)
        (3, 2)
    """
    if len(labels) < 2:
        raise InputError(f"{len(labels)} clean image came; expected at least two to split.")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    chosen = []
    for members in _by_class(labels[order]):
        if len(members) > 1:
            count = min(max(1, round(fraction * len(members))), len(members) - 1)
            chosen.append(order[members[:count]])
    if not chosen:
        chosen = [order[: max(1, round(fraction * len(order)))]]
    held_out = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


@dataclass(frozen=True)
class Parts:
    """What a repair uses each clean image for; positions, sorted, no two parts share one.

    Attributes:
        tuning: weights are tuned on them.
        choosing: the epoch, or the number of pruned channels, is chosen by them.
        untouched: nothing of the repair depends on them, so that they may set a threshold.
    """

    tuning: np.ndarray
    choosing: np.ndarray
    untouched: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        """Positions of all images that the repair depends on."""
        return np.sort(np.concatenate([self.tuning, self.choosing]))


def three_parts(labels: np.ndarray, fraction: float, *, seed: int = 0) -> Parts:
    """`Parts` of a data set: what `split_within_classes` holds out is dealt to two halves.

    One half chooses, the other is untouched. Of a class with several held-out images each half gets
    its share; classes with a single one take turns. A single held-out image chooses. How classes
    are numbered plays no part.

    Args:
        labels, fraction, seed: as for `split_within_classes`; `fraction` is held out for both
            halves together.

    Raises:
        InputError: fewer than two images.
    """
    tuning, held_out = split_within_classes(labels, fraction, seed=seed)
    rng = np.random.default_rng((seed, 10))
    shuffled = rng.permutation(held_out)
    _, first, group = np.unique(labels[shuffled], return_index=True, return_inverse=True)
    dealt = shuffled[np.argsort(first[group], kind="stable")]
    return Parts(tuning, np.sort(dealt[::2]), np.sort(dealt[1::2]))


def _by_class(labels: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order])) + 1
    return np.split(order, starts)
