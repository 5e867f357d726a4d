"""Which norms are suspiciously small, against values worked out by hand."""

import math
from functools import partial

import numpy as np
import pytest

from badnet_defense.scan.outliers import (
    Outliers,
    _above,
    far_smaller,
    gaps_to_next,
    joint_outliers,
    known_limit,
    mad_outliers,
    odds_outliers,
    simulated_limit,
    weight_outliers,
)

WIDE = 1e12
wide_outliers = partial(odds_outliers, area=WIDE)
"""Of pictures so wide that log-odds are logarithms."""
RULES = (mad_outliers, wide_outliers)


def limit_of(count):
    return wide_outliers(np.arange(1, count + 1)).limit


def test_mad_by_hand():
    """Median 12, deviations 2 0 2 4 10 with median 2, so MAD = 2 x 1.4826."""
    found = mad_outliers([10, 12, 14, 16, 2])
    assert found.median == 12
    assert found.mad == pytest.approx(2.9652)
    expected = [2 / 2.9652, 0, -2 / 2.9652, -4 / 2.9652, 10 / 2.9652]
    np.testing.assert_allclose(found.index, expected)
    assert found.flagged == (4,)  # 3.37 deviations below


def test_mad_of_an_even_number_of_norms():
    """Median 25 between 20 and 30; deviations 15 5 5 15 with median 10."""
    found = mad_outliers([10, 20, 30, 40])
    assert (found.median, found.mad) == (25, pytest.approx(14.826))
    np.testing.assert_allclose(found.index, np.array([15, 5, -5, -15]) / 14.826)
    assert found.flagged == ()


def test_only_small_norms_are_flagged():
    """99 and 101 stand around 100 evenly; 1000 lies as far out as 2 does, on the other side."""
    norms = [99, 100, 101, 99, 101, 100, 1000, 2]
    for rule in RULES:
        found = rule(norms)
        assert found.flagged == (7,)
        assert found.index[6] < -found.limit and found.index[7] > found.limit


def test_odds_by_hand():
    """Shares 1/2, 1/3, 1/9 and 1/5, 1/17 are odds of 1, 1/2, 1/8, 1/4, 1/16."""
    found = odds_outliers(np.array([1 / 2, 1 / 3, 1 / 9, 1 / 5, 1 / 17]) * 90, 90)
    assert found.median == pytest.approx(-2 * math.log(2))
    assert found.mad == pytest.approx(1.4826 * math.log(2))
    np.testing.assert_allclose(found.index, np.array([-2, -1, 1, 0, 2]) / 1.4826, atol=1e-12)


def test_a_crowd_near_the_whole_picture_makes_no_outlier():
    """A quarter of a picture is nothing beside such norms; a hundredth is."""
    norms = [70, 78, 84, 88, 90, 91, 92, 93, 94, 95, 96, 97, 98, 24, 1]
    assert odds_outliers(norms, 100).flagged == (14,)
    assert wide_outliers(norms).flagged == (14, 13)


def test_masks_that_cover_everything_are_like_each_other():
    found = odds_outliers([100, 100, 100, 99.5, 20, 100, 100], 100)
    assert found.mad == 0 and found.index[3] == 0 and found.flagged == (4,)


def test_a_deviation_is_never_taken_for_less_than_the_floor():
    """Medians 41.8 of 256 pixels, none further off than 2 but one that is a seventh smaller."""
    norms = [40, 41, 41.5, 41.8, 42, 42.5, 43, 43.5, 35.8]
    found = odds_outliers(norms, 256)
    odds = [norm / (256 - norm) for norm in (41.8, 35.8)]
    assert found.index[8] == pytest.approx(math.log(odds[0] / odds[1]) / 0.3) and found.index[8] < 1
    assert found.mad < 0.06 and found.flagged == () and mad_outliers(norms).flagged == (8,)


def test_sums_of_indices_are_not_stretched():
    """Where both passes find hardly a difference, the sums' own deviation is tiny, too."""
    found = joint_outliers(np.array([[0, 0.01, -0.01, 0.02, 0.9], [0.01, 0, 0.01, -0.02, 0.8]]))
    np.testing.assert_allclose(found.index[4], 1.7 - 0.01, atol=1e-9)
    assert found.flagged == ()


def test_weights_that_are_all_equal_but_one_have_a_sane_index():
    index = weight_outliers([5.0, 5, 5, 5, 5.1]).index
    np.testing.assert_allclose(index, [0, 0, 0, 0, 2])


def test_the_limit_of_a_known_deviation():
    """The smallest of ten lies 2.57 deviations down in one net of twenty: 0.95 is 0.9949^10."""
    assert known_limit(1) == pytest.approx(1.6449, abs=1e-4)
    assert known_limit(10) == pytest.approx(2.5679, abs=1e-3)
    smallest = np.random.default_rng(0).standard_normal((4000, 43)).min(axis=1)
    assert np.mean(-smallest > known_limit(43)) == pytest.approx(0.05, abs=0.01)


# One pass alone ----------------------------------------------------------------------------------


def exponents(*powers):
    """`Outliers` of a wide picture's norms e^power: their log-odds differ as the powers do."""
    return wide_outliers(np.exp(np.array(powers, float)))


def test_one_pass_flags_what_is_far_smaller_than_the_next():
    """Six at 4.0 to 4.25, the median of the seven 4.1: 3 has an index of 1.1 / 0.3 = 3.67."""
    usual = (4, 4.05, 4.1, 4.15, 4.2, 4.25)
    assert exponents(*usual, 3).index[6] == pytest.approx(1.1 / 0.3)
    assert far_smaller(exponents(*usual, 3), 0.99) == (6,)
    assert far_smaller(exponents(*usual, 3), 1.01) == ()


def test_the_distance_to_the_next_makes_up_for_an_index():
    """A limit of 2.44: at 3.5 the index is 2, the distance 0.5; at 3.7 they are 1.33 and 0.3."""
    usual = (4, 4.05, 4.1, 4.15, 4.2, 4.25)
    assert known_limit(7) == pytest.approx(2.4419, abs=1e-3)
    assert far_smaller(exponents(*usual, 3.5), 0.4) == (6,)  # 1.0 is above 0.4 x 2.44 = 0.98
    assert far_smaller(exponents(*usual, 3.5), 0.42) == ()
    assert far_smaller(exponents(*usual, 3.7), 0.01) == ()  # below 0.6 of the limit, however far


def given(values, index):
    """`Outliers` of log-odds and indices that need not go together."""
    return Outliers(0.0, 1.0, np.array(index, float), 3.0, (), np.array(values, float))


def test_what_just_suffices_to_be_flagged_by_one_pass():
    """Of seven labels the last lies 1 below the others; the limit of seven is 2.44."""
    values, limit = [4, 4, 4, 4, 4, 4, 3], known_limit(7)
    for index, gap, flagged in (
        (limit, 1, (6,)),
        (limit, 1.001, ()),
        (limit * 0.999, 1, ()),
        (limit / 2 * 1.25, 0.625, (6,)),  # 1 / 0.625 times the index is the limit
        (limit * 0.6, 0.6, (6,)),
        (limit * 0.599, 0.1, ()),
    ):
        assert far_smaller(given(values, [0] * 6 + [index]), gap) == flagged, (index, gap)
    pair = given([4, 4, 4, 4, 4, 4, 2.75, 2.75], [0] * 6 + [9, 9])
    assert far_smaller(pair, 1) == (6, 7) and far_smaller(pair, 1.001) == ()


def test_how_many_may_be_flagged_by_one_pass():
    """Of two labels that went all the way one, of one none; of five one, not the two below."""
    values, index = [4, 4, 4, 4, 4, 4, 3], [0] * 6 + [9]
    assert far_smaller(given(values, index), 0.5, [0, 6]) == (6,)
    assert far_smaller(given(values, index), 0.5, [6]) == ()
    assert far_smaller(given([4, 4, 4, 3, 3], [0, 0, 0, 9, 9]), 0.5) == ()
    # Each of several needs an index of its own.
    values = [4, 4, 4, 4, 4, 4, 2.7, 2.75]
    assert far_smaller(given(values, [0] * 6 + [9, 9]), 0.5) == (6, 7)
    assert far_smaller(given(values, [0] * 6 + [9, 0.1]), 0.5) == ()


def test_nothing_and_everything_have_finite_log_odds():
    found = odds_outliers([0, 50, 50, 60, 40, 100], 100)
    assert np.isfinite(found.values).all() and found.flagged == (0,)
    assert found.values[5] == pytest.approx(math.log(99))


def test_an_index_at_its_limit_is_no_outlier():
    assert _above(np.array([2.0, 1, 3, 2.5]), 2.0) == (2, 3)


def test_numbers_around_nothing_have_a_deviation_too():
    """A billionth at least, else the index of a rounding error would be without bounds."""
    np.testing.assert_allclose(weight_outliers([0, 0, 0, 0, 3e-9]).index, [0, 0, 0, 0, 3])


def test_outliers_stay_as_they_were_found():
    found = mad_outliers([1.0, 2, 3])
    with pytest.raises(AttributeError):
        found.limit = 0
    assert "limit=2.0" in repr(found) and "values" not in repr(found)  # of 1283 labels


def test_several_are_far_smaller_together():
    """They need not lie apart from each other; at most a third of the labels do so.

    The distance to the others is 1 and has to be 1.25 times what is asked.
    """
    usual = (4, 4.05, 4.1, 4.15, 4.2, 4.25)
    assert far_smaller(exponents(*usual, 3, 2.9), 0.79) == (7, 6)
    assert far_smaller(exponents(*usual, 3, 2.9), 0.81) == ()
    assert far_smaller(exponents(*usual, 3, 2.9, 2.95), 0.5) == (7, 8, 6)
    assert far_smaller(exponents(*usual, 3, 2.9, 2.95, 3.1), 0.5) == ()
    # The second lies close to the usual ones, the first apart from it.
    assert far_smaller(exponents(*usual, 2, 3.9), 0.5) == (6,)


def test_few_labels_alone():
    """Nor where they are judged by a sample of two."""
    assert far_smaller(wide_outliers(np.exp([4, 4.1, 4.2, 4.3, 1]), sample=[0, 1]), 0.4) == ()
    assert far_smaller(exponents(1), 0.1) == () and far_smaller(exponents(1, 4), 0.1) == ()
    assert far_smaller(exponents(1, 4, 4.1), 0.5) == (0,)


def test_labels_that_stopped_early_are_no_triggers_to_be_compared_with():
    """The bound of 3.2 is what such a label could at best have fallen to."""
    look, going = exponents(4, 4.05, 4.1, 4.15, 4.2, 4.25, 3, 3.2), np.arange(8) < 7
    assert far_smaller(look, 0.9) == () and far_smaller(look, 0.9, going) == (6,)
    assert gaps_to_next(look, (6,), going) == {6: pytest.approx(1)}


def test_how_much_smaller_a_trigger_is_than_those_that_are_no_outliers():
    look = exponents(1, 2, 4.5, 5, 4)
    found = gaps_to_next(look, (1, 0))
    assert found == {1: pytest.approx(2, abs=1e-6), 0: pytest.approx(3, abs=1e-6)}
    assert gaps_to_next(exponents(1.0), (0,)) == {0: np.inf}


def test_logarithms_by_hand():
    """Of powers of two: exponents' median 6, deviations 1 0 1 2 6 with median 1."""
    found = wide_outliers([2**5, 2**6, 2**7, 2**8, 2**0])
    assert found.median == pytest.approx(6 * math.log(2) - math.log(WIDE))
    assert found.mad == pytest.approx(1.4826 * math.log(2))
    np.testing.assert_allclose(found.index, np.array([1, 0, -1, -2, 6]) / 1.4826, atol=1e-6)
    assert found.flagged == ()  # an index of 4 is common among the smallest of five


def test_logarithms_see_factors():
    """The same index in pixels as in tenths of pixels, and whatever a usual norm is."""
    norms = np.array([30.0, 45, 60, 50, 40, 35, 4])
    found = wide_outliers(norms)
    np.testing.assert_allclose(wide_outliers(10 * norms).index, found.index, rtol=1e-6)
    assert found.flagged == (6,)
    assert mad_outliers(norms).index[6] < found.index[6]


@pytest.mark.parametrize(("labels", "sample"), [(5, 5), (10, 10), (43, 20), (200, 64)])
def test_the_simulated_limit_is_exact_to_three_hundredths(labels, sample):
    """Against ten times as many simulated nets, all at once."""
    values = np.random.default_rng(7).standard_normal((20_000, labels))
    seen = values[:, :sample]
    median = np.median(seen, axis=1)
    mad = 1.4826 * np.median(np.abs(seen - median[:, None]), axis=1)
    for false_alarms in (0.05, 0.025):
        exact = np.quantile((median - values.min(axis=1)) / mad, 1 - false_alarms)
        found = simulated_limit(labels, sample, false_alarms)
        assert found == pytest.approx(exact, rel=0.03 if false_alarms == 0.05 else 0.06)


def test_limit_is_passed_by_one_clean_net_in_twenty():
    """Whatever the number of labels, on norms that played no part in the limit."""
    for labels in (10, 43, 200):
        assert abs(false_alarms(wide_outliers, labels, 1000) - 0.05) < 0.03
        assert false_alarms(wide_outliers, labels, 1000, 0.1) < 0.01  # the floor
    assert limit_of(1283) > limit_of(100) > mad_outliers(np.arange(1, 1284)).limit


def test_two_norms_have_no_outlier():
    assert wide_outliers([1.0, 1000.0]).flagged == ()


def false_alarms(rule, labels, nets=300, spread=0.6):
    """Share of nets without a backdoor that have a flagged label; their norms spread by factors."""
    norms = np.exp(np.random.default_rng(labels).normal(4, spread, (nets, labels)))
    return np.mean([bool(rule(one).flagged) for one in norms])


def test_many_labels_alone_flag_no_clean_net():
    """Two deviations are passed by some of 1283 clean labels in most nets, the grown limit not."""
    assert false_alarms(mad_outliers, 1283, spread=0.3) > 0.5
    assert false_alarms(wide_outliers, 1283) < 0.12
    assert false_alarms(wide_outliers, 200) < 0.15


@pytest.mark.parametrize("rule", RULES)
def test_equal_norms_have_no_outlier(rule):
    found = rule([7.5] * 12)
    assert found.flagged == () and found.mad == 0
    np.testing.assert_array_equal(found.index, np.zeros(12))


@pytest.mark.parametrize("rule", RULES)
def test_what_lies_far_below_a_majority_of_equal_norms_is_an_outlier(rule):
    """The deviation is 0, and the index is a sane number all the same."""
    found = rule([5, 5, 5, 5, 0.5, 9])
    assert found.flagged == (4,) and found.mad == 0
    assert found.index[4] < 100 and found.index[5] < 0


@pytest.mark.parametrize("rule", RULES)
def test_several_are_flagged_smallest_first(rule):
    norms = [98, 3, 100, 102, 97, 103, 101, 1.5, 99, 2, 100]
    assert rule(norms).flagged == (7, 9, 1)


@pytest.mark.parametrize("rule", RULES)
def test_equal_outliers_keep_their_order(rule):
    assert rule([98, 3, 100, 102, 3, 103, 101, 99, 97]).flagged == (1, 4)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "norms", [[4.0], [4.0, 9.0], [1e-5, 50, 50, 50], [1e-30, 1e30, 1.0], np.float32([3, 2, 1])]
)
def test_index_is_finite(rule, norms):
    found = rule(norms)
    assert np.isfinite([found.median, found.mad, found.limit, *found.index]).all()
    assert found.index.shape == (len(norms),)
    assert all(isinstance(one, int) for one in found.flagged)


@pytest.mark.parametrize("rule", RULES)
def test_one_or_two_labels_cannot_stand_out(rule):
    assert rule([0.1]).flagged == () and rule([0.1, 90]).flagged == ()


def test_median_and_deviation_come_from_the_sample():
    """Of 10, 12, 14, 16, 18: median 14, deviations 4 2 0 2 4; the rest plays no part."""
    norms = np.array([10, 90, 12, 91, 14, 92, 16, 93, 18, 2.0])
    found = mad_outliers(norms, sample=[0, 2, 4, 6, 8])
    assert (found.median, found.mad) == (14, pytest.approx(1.4826 * 2))
    assert found.index[9] == pytest.approx(12 / (1.4826 * 2))
    assert found.flagged == (9,)


def test_a_small_sample_has_a_wider_limit():
    norms = np.exp(np.random.default_rng(0).normal(4, 0.3, 1283))
    narrow = wide_outliers(norms, sample=np.arange(32))
    assert narrow.limit > wide_outliers(norms, sample=np.arange(200)).limit
    assert narrow.limit > wide_outliers(norms).limit


def test_joint_by_hand():
    """Sums 1 2 3 4 14: median 3, deviations 2 1 0 1 11 with median 1."""
    found = joint_outliers([[1, 1, 1, 1, 7], [0, 1, 2, 3, 7]])
    np.testing.assert_allclose(found.index, np.array([-2, -1, 0, 1, 11]) / 1.4826)
    assert found.limit == limit_of(5)
    assert (4 in found.flagged) == (found.index[4] > found.limit)


def test_what_stands_out_in_one_look_alone_is_less_than_what_does_in_both():
    rng = np.random.default_rng(0)
    near, far = rng.standard_normal((2, 200))
    near[3], far[3], near[5], far[5] = 6, 6, 6, 0
    found = joint_outliers([near, far])
    assert found.flagged[0] == 3 and found.index[5] < 6 < found.index[3]


def test_weights_by_hand_on_the_large_side():
    """Median 3, deviations 2 1 0 1 11 with median 1; large sums are odd, small ones are not."""
    found = weight_outliers([1, 2, 3, 4, 14])
    np.testing.assert_allclose(found.index, np.array([-2, -1, 0, 1, 11]) / 1.4826)
    assert weight_outliers([-14, 2, 3, 4, 3, 2]).flagged == ()
    assert weight_outliers([1, 2, 3, 4, 3, 2, 99, 3, 2, 4]).flagged == (6,)


def test_joint_with_weights_by_hand():
    """The looks' indices are -2 -1 0 1 3 over 1.4826; of both indices the larger counts."""
    looks = [[1, 2, 3, 4, 6]]
    # Sums -2 -1 0 1 5: median 0, deviations 2 1 0 1 5 with median 1.
    found = joint_outliers(looks, [np.array([0, 0, 0, 0, 2]) / 1.4826])
    np.testing.assert_allclose(found.index, np.array([-2, -1, 0, 1, 5]) / 1.4826)
    # Sums 1 -1 0 1 3: median 1, deviations 0 2 1 0 2 with median 1.
    found = joint_outliers(looks, [np.array([3, 0, 0, 0, 0]) / 1.4826])
    np.testing.assert_allclose(found.index, np.array([0, -1, 0, 1, 3]) / 1.4826, atol=1e-9)


def test_what_the_weights_say_nothing_about_needs_half_the_false_alarms():
    rng = np.random.default_rng(1)
    looks, weights = rng.standard_normal((2, 100)), rng.standard_normal(100)
    alone, both = joint_outliers(looks), joint_outliers(looks, [weights])
    assert both.limit == simulated_limit(100, 100, 0.025) > alone.limit
    assert (both.index >= alone.index).all() and (both.index > alone.index).any()


def test_joint_with_weights_flags_few_clean_nets():
    rng = np.random.default_rng(2)
    nets = [
        joint_outliers(rng.standard_normal((1, 43)), [rng.standard_normal(43)]) for _ in range(600)
    ]
    assert 0.01 < np.mean([bool(one.flagged) for one in nets]) < 0.08
