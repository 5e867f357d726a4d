"""Thresholds by clean pictures, against order statistics worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from badnet_defense.detectors.calibration import (
    expected_rate,
    measured_rate,
    min_images,
    places_above,
    threshold_at,
)
from badnet_defense.errors import InputError


def test_threshold_by_hand():
    """Of 19 scores a rate of 0.1 is the second largest: 2 / 20 of new ones pass it."""
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 20.0))
    threshold, expected = threshold_at(scores, 0.1)
    assert threshold == 18 and expected.rate == pytest.approx(0.1) and expected.pictures == 19
    assert expected.low < 0.1 < expected.high


def test_rates_between_two_places_take_the_lower():
    threshold, expected = threshold_at(np.arange(1.0, 20.0), 0.149)
    assert threshold == 18 and expected.rate == pytest.approx(0.1)


def test_interval_is_that_of_the_beta_distribution():
    """Of 99 scores and a rate of 0.01 the largest: its rate is Beta(1, 99), 1 - (1 - x)^99."""
    _, expected = threshold_at(np.arange(99.0), 0.01)
    assert expected.low == pytest.approx(1 - 0.975 ** (1 / 99))
    assert expected.high == pytest.approx(1 - 0.025 ** (1 / 99))


def test_new_pictures_keep_to_the_rate():
    """Whatever the distribution; and the interval holds 95 of 100 such rates."""
    rng = np.random.default_rng(3)
    rates, held = [], []
    for _ in range(400):
        threshold, expected = threshold_at(rng.lognormal(size=300), 0.05)
        rate = np.mean(rng.lognormal(size=20_000) > threshold)
        rates.append(rate)
        held.append(expected.low <= rate <= expected.high)
    assert abs(np.mean(rates) - 15 / 301) < 0.002 and 0.9 < np.mean(held) < 0.99


@pytest.mark.parametrize(("rate", "least"), [(0.01, 99), (0.05, 19), (0.3, 3), (0.5, 1)])
def test_too_few_pictures_are_refused(rate, least):
    assert min_images(rate) == least
    threshold_at(np.arange(float(least)), rate)
    with pytest.raises(InputError, match=f"{least - 1} clean images .* at least {least}"):
        threshold_at(np.arange(float(least - 1)), rate)


def test_measured_rate_is_a_share_with_wilson_s_interval():
    found = measured_rate([True] * 3 + [False] * 97)
    assert found.rate == pytest.approx(0.03) and found.pictures == 100
    assert (found.low, found.high) == pytest.approx((0.0103, 0.0845), abs=1e-4)
    assert str(found) == "3.00 % (95 %: 1.03 to 8.45 %), from 100 clean images"


@pytest.mark.parametrize(
    ("rate", "count", "place"),
    [
        (0.29, 99, 29),  # 0.29 * 100 is 28.999.. in floats
        (0.1, 18, 1),  # 1.9
        (0.1, 19, 2),
        (0.5, 1, 1),
        (0.999, 1000, 999),
    ],
)
def test_which_score_is_the_threshold(rate, count, place):
    assert places_above(count, rate) == place
    threshold, expected = threshold_at(-np.arange(float(count)), rate)
    assert threshold == 1 - place
    assert expected.rate == pytest.approx(place / (count + 1)) and expected.pictures == count


def test_the_interval_of_a_rate_by_the_binomial_distribution():
    """Below the low end of the rates fewer than 10 of 99 are flagged with a chance of 2.5 %."""
    expected = expected_rate(10, 99)
    assert binom.sf(9, 99, expected.low) == pytest.approx(0.025)
    assert binom.sf(9, 99, expected.high) == pytest.approx(0.975)


def test_many_equal_scores_at_the_threshold_are_told(caplog):
    """Two of 19 may lie above; three that share the threshold's score do not."""
    for scores in (range(19), [*range(17), 17, 17], [*range(16), 17, 17, 18]):
        threshold_at(scores, 0.1)
    assert not caplog.messages
    threshold, _ = threshold_at([*range(16), 17, 17, 17], 0.1)
    assert threshold == 17
    assert caplog.messages == [
        "3 of 19 clean images have exactly the score of the threshold: fewer will be flagged than "
        "expected, perhaps none"
    ]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_refused(wrong):
    with pytest.raises(InputError, match=r"answer some clean images with NaN; .* input range"):
        threshold_at([wrong, *range(99)], 0.1)


def test_the_refusal_names_the_rate_in_percent():
    with pytest.raises(InputError, match=r"^5 clean images are left .* rate of 2.5 % takes at le"):
        places_above(5, 0.025)


def test_a_caveat_is_told_with_the_rate():
    promised = expected_rate(1, 19)
    with pytest.raises(AttributeError):  # what was promised stands
        promised.rate = 0.0
    expected = replace(promised, caveat="holds only on Sundays")
    assert str(expected).startswith("5.00 % (95 %: 0.13 to 17.65 %), from 19 clean images; this ")
    assert str(expected).endswith("; this holds only on Sundays")
