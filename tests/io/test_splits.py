"""Splits of a data set within its classes, worked out by hand."""

import numpy as np
import pytest

from badnet_defense.errors import InputError
from badnet_defense.io.splits import split_within_classes, three_parts


def test_split_holds_out_a_share_of_each_class():
    labels = np.array([0] * 10 + [1] * 4 + [2] * 2 + [3])
    larger, held_out = split_within_classes(labels, 0.2)
    # 2 of 10, 1 of 4 (0.8 rounds up), at least 1 of 2; the only picture of class 3 stays.
    assert np.bincount(labels[held_out], minlength=4).tolist() == [2, 1, 1, 0]
    assert sorted([*larger, *held_out]) == list(range(17))


def test_both_parts_are_sorted_whatever_the_order_of_the_labels():
    """Forty images of five classes, one after the other and mixed."""
    for labels in (np.repeat(np.arange(5), 8), np.random.default_rng(1).integers(0, 5, 40)):
        for part in split_within_classes(labels, 0.5, seed=3):
            assert len(part) > 15 and (np.diff(part) > 0).all()


def test_which_images_are_held_out_is_drawn():
    """Each of ten of a class about as often as the others, in 300 draws of two."""
    labels = np.array([0] * 10 + [1] * 10)
    drawn = [split_within_classes(labels, 0.2, seed=seed)[1] for seed in range(300)]
    assert {len(one) for one in drawn} == {4}
    counts = np.bincount(np.concatenate(drawn), minlength=20)
    assert counts.sum() == 1200 and counts.min() > 30 and counts.max() < 95


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


def test_three_parts_halve_what_is_held_out():
    labels = np.array([0] * 20 + [1] * 10 + [2] * 10 + [3] * 2 + [4])
    parts = three_parts(labels, 0.2, seed=5)
    tuning, held_out = split_within_classes(labels, 0.2, seed=5)
    np.testing.assert_array_equal(parts.tuning, tuning)
    both = [*parts.choosing, *parts.untouched]
    assert sorted(both) == held_out.tolist() and len(set(both)) == 9
    # 4 of class 0, 2 of 1, 2 of 2 and 1 of 3 are held out: both halves get their share of each.
    chosen = np.bincount(labels[parts.choosing], minlength=5)
    assert chosen[:3].tolist() == [2, 1, 1] and len(parts.choosing) == 5
    np.testing.assert_array_equal(parts.seen, np.setdiff1d(np.arange(43), parts.untouched))


def test_three_parts_of_classes_with_one_held_out_image_take_turns():
    labels = np.repeat(np.arange(101), 4)
    parts = three_parts(labels, 0.15)
    assert (len(parts.choosing), len(parts.untouched)) == (51, 50)
    assert not set(labels[parts.choosing]) & set(labels[parts.untouched])


def test_three_parts_do_not_depend_on_the_classes_numbers():
    labels = np.random.default_rng(0).integers(0, 9, 200)
    renamed = np.array([4, 7, 1, 0, 8, 2, 6, 3, 5])[labels]
    first, second = three_parts(labels, 0.2), three_parts(renamed, 0.2)
    np.testing.assert_array_equal(first.choosing, second.choosing)
    np.testing.assert_array_equal(first.untouched, second.untouched)
    assert three_parts(labels, 0.2, seed=1).choosing.tolist() != first.choosing.tolist()


def test_a_single_held_out_image_chooses():
    parts = three_parts(np.array([0, 0, 1]), 0.3)
    assert [len(part) for part in (parts.tuning, parts.choosing, parts.untouched)] == [2, 1, 0]
