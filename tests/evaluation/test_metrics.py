"""Metrics against values worked out by hand and against plain loops."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from badnet_defense.evaluation import metrics

SCORES = st.lists(st.integers(0, 6), min_size=1, max_size=25)


def test_shares_by_hand():
    answers = np.array([3, 1, 7, 7, 2])
    assert metrics.accuracy(answers, [3, 1, 0, 4, 0]) == 2 / 5
    assert metrics.attack_success(answers, 7) == 2 / 5
    assert metrics.attack_success(answers, [3, 0, 7, 0, 2]) == 3 / 5
    assert metrics.flagged(answers, classes=7) == 2 / 5
    assert metrics.flagged(answers, classes=8) == 0


@pytest.mark.parametrize(
    ("bad", "defended", "expected"),
    [
        ((0.98, 1.0), (0.98, 0.0), 1.0),  # perfect
        ((0.98, 1.0), (0.98, 1.0), 0.5),  # nothing done
        ((0.98, 1.0), (0.93, 0.04), (0.96 - 0.05 + 1) / 2),
        ((0.90, 0.5), (0.95, 0.7), 0.5),  # gains in accuracy and losses in ASR count as none
        ((1.00, 0.0), (0.00, 0.0), 0.0),  # the net destroyed for nothing
    ],
)
def test_defense_effectiveness_by_hand(bad, defended, expected):
    rating = metrics.defense_effectiveness(
        bad_accuracy=bad[0], bad_success=bad[1], accuracy=defended[0], success=defended[1]
    )
    assert rating == pytest.approx(expected)


def test_auroc_by_hand():
    assert metrics.auroc([1, 2, 3], [4, 5]) == 1
    assert metrics.auroc([4, 5], [1, 2, 3]) == 0
    assert metrics.auroc([1, 1], [1, 1, 1]) == 0.5
    # pairs: 2>1, 2=2 (half), 2<3, 3>1, 3>2, 3=3 (half): 4 of 6
    assert metrics.auroc([1, 2, 3], [2, 3]) == pytest.approx(4 / 6)


@given(clean=SCORES, poisoned=SCORES)
def test_auroc_counts_pairs(clean, poisoned):
    pairs = [(p > c) + (p == c) / 2 for p in poisoned for c in clean]
    assert metrics.auroc(clean, poisoned) == pytest.approx(sum(pairs) / len(pairs))


def test_detection_by_hand():
    clean = np.arange(100)  # 1 % may be flagged: the threshold is 98
    assert metrics.detection_at(clean, [97, 98, 98.5, 200], 0.01) == 0.5
    assert metrics.detection_at(clean, [97, 98, 98.5, 200], 0.0) == 0.25
    assert metrics.detection_at(clean, [-1, 70, 71, 200], 0.29) == 0.5  # 0.29 * 100 < 29 in floats
    assert metrics.detection_at(clean, [-5], 1.0) == 1
    assert metrics.detection_at([1, 1, 1, 1], [1, 2], 0.25) == 0.5  # ties are not flagged


@given(clean=SCORES, poisoned=SCORES, percent=st.integers(0, 100))
def test_detection_is_the_best_allowed_threshold(clean, poisoned, percent):
    best = 0
    for threshold in {-math.inf, *clean}:
        alarms = sum(score > threshold for score in clean)
        if 100 * alarms <= percent * len(clean):
            best = max(best, sum(score > threshold for score in poisoned) / len(poisoned))
    assert metrics.detection_at(clean, poisoned, percent / 100) == pytest.approx(best)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_is_wilsons_formula(case):
    successes, count = case
    share, z = successes / count, 1.959963984540054
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) * z / (1 + z**2 / count)
    low, high = metrics.wilson_interval(successes, count)
    assert low == pytest.approx(max(0, centre - half), abs=1e-9)
    assert high == pytest.approx(min(1, centre + half), abs=1e-9)
    assert low <= share <= high


def test_wilson_interval_of_ten_out_of_ten():
    low, high = metrics.wilson_interval(10, 10)
    assert low == pytest.approx(0.7225, abs=1e-4)
    assert high == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.accuracy([], []), "at least one image"),
        (lambda: metrics.attack_success([], 3), "at least one image"),
        (lambda: metrics.flagged([], 3), "at least one image"),
        (lambda: metrics.accuracy([1, 2], [1]), r"\(2,\) and labels \(1,\)"),
        (lambda: metrics.accuracy([1], [1, 2]), r"\(1,\) and labels \(2,\)"),
        (lambda: metrics.accuracy(3, 3), r"predicted has shape \(\) .* expected \(n,\)"),
        (lambda: metrics.accuracy([[1, 2]], [[1, 2]]), r"expected \(n,\)"),
        (lambda: metrics.auroc([], [1]), "clean scores"),
        (lambda: metrics.auroc([1], []), "poisoned scores"),
        (lambda: metrics.auroc(3.0, [1]), r"clean scores have shape \(\)"),
        (lambda: metrics.auroc([[1, 2]], [1]), r"clean scores have shape \(1, 2\)"),
        (lambda: metrics.auroc([1], [math.nan]), "poisoned scores hold NaN"),
        (lambda: metrics.detection_at([], [1], 0.1), "clean scores"),
        (lambda: metrics.detection_at([1], [1], -0.5), r"-0.5, expected one in \[0, 1\]"),
        (lambda: metrics.detection_at([1], [1], 1.5), r"1.5, expected one in \[0, 1\]"),
        (lambda: metrics.wilson_interval(0, 0), "at least one image"),
        (lambda: metrics.wilson_interval(4, 3), "got 4 successes of 3 images"),
    ],
)
def test_nothing_to_measure_is_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_roc_curve_by_hand():
    """Thresholds fall from 9: above none, then 9, 5 (both sets), 3, 1."""
    rates, shares = metrics.roc_curve([1, 3, 5, 1], [9, 5])
    assert rates.tolist() == [0, 0, 0.25, 0.5, 1] and shares.tolist() == [0, 0.5, 1, 1, 1]


def test_roc_curve_holds_the_area():
    rng = np.random.default_rng(0)
    clean, poisoned = rng.integers(0, 20, 300), rng.integers(5, 25, 200)
    rates, shares = metrics.roc_curve(clean, poisoned)
    area = np.sum(np.diff(rates) * (shares[1:] + shares[:-1]) / 2)
    assert area == pytest.approx(metrics.auroc(clean, poisoned))
