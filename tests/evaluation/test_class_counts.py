"""Whom a figure over all images leaves out, against counts made by hand."""

import logging

import numpy as np
import pytest

from badnet_defense.errors import InputError
from badnet_defense.evaluation.class_counts import (
    check_several_classes,
    class_counts,
    coverage_text,
    tell_coverage,
)
from badnet_defense.io import Dataset
from badnet_defense.report.tables import defense_table


def labelled(labels):
    return Dataset(np.zeros((len(labels), 1, 1, 3), np.uint8), np.array(labels), "clean.h5")


def test_counts_are_of_clean_labelled_sets():
    sets = {
        "clean_validation": labelled([0, 2, 2]),
        "clean_test": labelled([1]).without_labels(),
        "poisoned": labelled([3, 3]),
    }
    assert class_counts(sets, 4) == {"clean_validation": [1, 0, 2, 0]}


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ([5, 6, 7], ""),
        ([5, 0, 7], "no image of class 1"),
        ([5, 4, 1], "fewer than 5 of classes 1 (4) and 2 (1)"),
        ([0, 9, 0, 3], "no image of classes 0 and 2; fewer than 5 of class 3 (3)"),
        ([9] + [0] * 6, "no image of classes 1, 2, 3, 4 and 2 others"),
        ([9] + [0] * 5, "no image of classes 1, 2, 3, 4 and 5"),
    ],
)
def test_who_is_left_out_is_named(counts, text):
    assert coverage_text(counts) == text


def test_it_is_told_before_the_work(caplog):
    tell_coverage(labelled([0] * 5 + [1] * 5), 2)
    tell_coverage(labelled([0]).without_labels(), 2)
    assert not caplog.messages
    with caplog.at_level(logging.INFO, logger="badnet_defense"):
        tell_coverage(labelled([0] * 5), 2)
    assert caplog.messages[0].startswith("clean.h5: no image of class 1; accuracies are averages")


def test_images_of_one_class_repair_nothing():
    with pytest.raises(InputError, match=r"all 3 clean images are of class 4, but .* 10 classes"):
        check_several_classes(labelled([4, 4, 4]), 10)
    check_several_classes(labelled([4, 5]), 10)
    check_several_classes(labelled([0]), 1)


def test_the_table_names_the_worst_classes_and_who_is_left_out():
    def stage(accuracy):
        by_class = {"labels": [0, 1, 3, 4], "accuracy": accuracy, "pictures": [8, 12, 3, 5]}
        return {"clean_test": {"accuracy": 0.5, "pictures": 28, "by_class": by_class}}

    result = {
        "bad": stage([1, 1, 1, 1]),
        "repaired": stage([0.5, 0, 2 / 3, 0.8]),
        "class_counts": {"clean_test": [8, 12, 0, 3, 5]},
    }
    assert defense_table(result).splitlines()[-2:] == [
        "worst classes of clean test: repaired 1: 0.0 % of 12, 0: 50.0 % of 8, 3: 66.7 % of 3",
        "left out of clean test: no image of class 2; fewer than 5 of class 3 (3)",
    ]
    plain = {"bad": {"clean_test": {"accuracy": 0.5, "pictures": 28}}}
    assert "worst" not in defense_table(plain)
