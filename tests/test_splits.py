"""Splits of a data set within its classes, worked out by hand."""

import numpy as np
import pytest

from badnet_defense.data.splits import split_within_classes
from badnet_defense.errors import InputError


def test_split_holds_out_a_share_of_each_class():
    labels = np.array([0] * 10 + [1] * 4 + [2] * 2 + [3])
    larger, held_out = split_within_classes(labels, 0.2)
    # 2 of 10, 1 of 4 (0.8 rounds up), at least 1 of 2; the only picture of class 3 stays.
    assert np.bincount(labels[held_out], minlength=4).tolist() == [2, 1, 1, 0]
    assert sorted([*larger, *held_out]) == list(range(17))
    assert (np.diff(larger) > 0).all() and (np.diff(held_out) > 0).all()


def test_split_keeps_one_of_each_class_in_the_larger_part():
    larger, held_out = split_within_classes(np.array([0, 0, 1, 1]), 0.9)
    assert sorted(larger // 2) == [0, 1] and sorted(held_out // 2) == [0, 1]


def test_split_depends_on_the_seed_alone():
    labels = np.repeat(np.arange(5), 8)
    first, again, other = (split_within_classes(labels, 0.25, seed=seed)[1] for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()


def test_split_where_every_class_has_one_picture():
    larger, held_out = split_within_classes(np.arange(10), 0.3)
    assert (len(larger), len(held_out)) == (7, 3)
    with pytest.raises(InputError, match="at least two"):
        split_within_classes(np.array([4]), 0.3)
