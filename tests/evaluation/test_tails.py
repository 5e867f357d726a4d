"""Tails that stand apart, against groups that were put there, and against honest heavy tails."""

import numpy as np
import pytest

from badnet_defense.evaluation.tails import MAX_FRACTION, separated_tail

HONEST = {
    "normal": lambda rng, n: rng.normal(size=n),
    "exponential": lambda rng, n: rng.exponential(size=n),
    "lognormal": lambda rng, n: rng.lognormal(0, 3, n),
    "Pareto": lambda rng, n: rng.pareto(1, n),
    "crowded at its end": lambda rng, n: rng.beta(5, 0.5, n),
    "two nets": lambda rng, n: np.where(
        rng.random(n) < 0.06, rng.gamma(2, 3, n), rng.lognormal(-6, 3, n)
    ),
}


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.parametrize("count", [100, 2000])
def test_honest_tails_are_not_told(name, count):
    """Not one in 50 sets, whose classes are as unequal as 4 to 1."""
    rng = np.random.default_rng(count)
    shares = np.r_[0.4, np.full(9, 0.6 / 9)]
    for _ in range(50):
        answers = rng.choice(10, count, p=shares)
        assert separated_tail(HONEST[name](rng, count), answers) is None


@pytest.mark.parametrize(("count", "added"), [(400, 20), (2000, 40)])
def test_images_with_one_answer_are_found(count, added):
    rng = np.random.default_rng(added)
    scores, answers = HONEST["two nets"](rng, count), rng.integers(0, 43, count)
    places = rng.permutation(count)[:added]
    scores[places], answers[places] = rng.normal(24, 3, added), 7
    tail = separated_tail(scores, answers)
    # As many honest ones may lie among them as leave it improbable.
    assert len(set(places) & set(tail.places)) >= added - 2 and len(tail.places) <= 1.3 * added
    assert tail.answer == 7 and tail.answered >= added - 2
    assert (np.diff(scores[tail.places]) <= 0).all()


def test_a_second_mode_is_found_without_answers():
    """40 scores about 30, above 1,960 that fall off from 0; of any class."""
    rng = np.random.default_rng(0)
    scores = np.r_[rng.exponential(1.0, 1960), rng.normal(30, 1, 40)]
    tail = separated_tail(scores)
    assert set(tail.places) == set(range(1960, 2000)) and tail.answer is None


def test_one_odd_score_above_hides_no_mode():
    rng = np.random.default_rng(1)
    scores = np.r_[rng.exponential(1.0, 1960), rng.normal(30, 1, 40), 500.0]
    assert set(separated_tail(scores).places) == set(range(1960, 2001))


def test_chance_by_hand():
    """Of 100 images, 10 of each class, the oddest 8 of one: 10 classes * Binomial(8, 1/10) of 8."""
    scores = -np.arange(100.0)
    rest = np.r_[np.repeat(np.arange(1, 10), 10), 0, 0]
    answers = np.r_[np.zeros(8, int), np.random.default_rng(0).permutation(rest)]
    tail = separated_tail(scores, answers)
    assert tail.places.tolist() == list(range(8)) and tail.chance == pytest.approx(10 * 0.1**8)
    answers[5:8] = 1, 2, 3  # five of one are no tail: 10 * 0.07**5 is more than one in a million
    assert separated_tail(scores, answers) is None


@pytest.mark.parametrize("scores", [[1.0] * 40, np.arange(20.0), [np.nan] * 200, [0.0, 1.0] * 50])
def test_scores_without_a_tail(scores):
    assert separated_tail(scores) is None


def test_more_than_a_tenth_is_no_tail():
    scores = np.r_[np.zeros(80), np.full(20, 9.0)] + np.random.default_rng(0).normal(0, 0.1, 100)
    assert MAX_FRACTION == 0.1 and separated_tail(scores) is None
