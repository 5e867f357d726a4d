"""Splits of a data set that keep each class in both parts."""

import numpy as np

from badnet_defense.errors import InputError


def split_within_classes(labels, share, *, seed=0):
    """(indices of the larger part, indices of the held-out part), both sorted.

    Of each class with two and more pictures the rounded `share` is held out, at least one; a class
    with a single picture stays in the larger part. Where no class has two, the share is drawn from
    all pictures.

    Args:
        labels: (n,) class numbers.
        share: of each class, in (0, 1).
        seed: which pictures are drawn.

    Raises:
        InputError: fewer than two pictures.
    """
    if len(labels) < 2:
        raise InputError(f"{len(labels)} clean picture came; expected at least two to split.")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    held_out = []
    for members in _by_class(labels[order]):
        if len(members) > 1:
            count = min(max(1, round(share * len(members))), len(members) - 1)
            held_out.append(order[members[:count]])
    if not held_out:
        held_out = [order[: max(1, round(share * len(order)))]]
    held_out = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def _by_class(labels):
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order])) + 1
    return np.split(order, starts)
