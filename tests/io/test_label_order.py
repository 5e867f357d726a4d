"""How labels may number a net's classes, against numberings written out by hand."""

import numpy as np
import pytest

from badnet_defense.errors import InputError
from badnet_defense.io import Dataset
from badnet_defense.io.label_order import FROM_ONE, NAMES, TEXT, VALUE, label_orders


def orders(labels, classes, folders=None):
    labels = np.array(labels)
    images = Dataset(np.zeros((len(labels), 1, 1, 1), np.uint8), labels, folders=folders)
    return {order: found.tolist() for order, found in label_orders(images, classes).items()}


def test_twelve_folders_from_nought():
    names = tuple(sorted(map(str, range(12))))
    assert orders([0, 1, 2, 9, 10, 11], 12, names) == {
        VALUE: [0, 1, 2, 9, 10, 11],
        TEXT: [0, 1, 4, 11, 2, 3],  # 0, 1, 10, 11, 2, 3, .., 9
    }


def test_twelve_folders_from_one():
    names = tuple(sorted(map(str, range(1, 13))))
    assert orders([1, 2, 9, 10, 12], 12, names) == {
        FROM_ONE: [0, 1, 8, 9, 11],
        TEXT: [0, 4, 11, 1, 3],  # 1, 10, 11, 12, 2, 3, .., 9
    }


def test_a_part_of_the_folders_keeps_the_places_of_the_others():
    assert orders([2, 10], 12, ("10", "2")) == {VALUE: [2, 10], FROM_ONE: [1, 9], TEXT: [4, 2]}


def test_arrays_have_no_folders():
    assert orders([1, 10, 12], 12) == {FROM_ONE: [0, 9, 11], TEXT: [0, 1, 3]}


def test_folders_of_other_numbers_are_as_many_as_the_classes():
    assert orders([5, 7, 20], 3, ("20", "5", "7")) == {TEXT: [1, 2, 0]}


def test_orders_that_are_the_same_come_once():
    assert orders([0, 1, 9], 10) == {VALUE: [0, 1, 9]}  # one digit: text and value agree
    padded = tuple(f"{number:02}" for number in range(12))
    assert orders([0, 10, 11], 12, padded) == {VALUE: [0, 10, 11]}


def test_names_are_numbered_as_they_are_sorted():
    assert orders([0, 1, 1], 2, ("cat", "dog")) == {NAMES: [0, 1, 1]}
    with pytest.raises(InputError, match="2 named sub-folders, but the net has 5 classes"):
        orders([0, 1], 5, ("cat", "dog"))


@pytest.mark.parametrize("labels", [[0, 12], [1, 13], [13, 14]])
def test_labels_that_fit_no_order_are_refused(labels):
    with pytest.raises(InputError, match=r"but the net has 12 classes \(0..11\)"):
        orders(labels, 12)


def test_names_that_are_not_those_of_the_labels_give_no_order():
    assert orders([0, 1, 2], 3, ("0", "1", "7")) == {VALUE: [0, 1, 2]}
