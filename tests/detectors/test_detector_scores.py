"""What detectors compute, against cases worked out by hand, in NumPy and in Keras alike."""

import keras
import numpy as np
import pytest

from badnet_defense.detectors import DETECTORS, scores
from badnet_defense.detectors.registry import overlays_needed, roles_of

BAD = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.5, 0.5, 0.0]])
REPAIRED = np.array([[0.25, 0.5, 0.25], [0.0, 0.2, 0.8], [0.5, 0.5, 0.0]])
EXPERT = np.array([[0.5, 0.25, 0.25], [0.4, 0.4, 0.2], [0.25, 0.75, 0.0]])


@pytest.fixture(params=["numpy", "keras"])
def xp(request):
    return np if request.param == "numpy" else keras.ops


def test_hard(xp):
    assert np.asarray(scores.hard(xp, BAD, REPAIRED)).tolist() == [1, 0, 0]


def test_surprise(xp):
    """The repaired net gives the bad net's answers 1/4, 4/5 and 1/2."""
    expected = -np.log([0.25, 0.8, 0.5])
    np.testing.assert_allclose(scores.nll(xp, BAD, REPAIRED), expected, rtol=1e-6)


def test_surprise_of_the_impossible_is_finite(xp):
    found = np.asarray(scores.nll(xp, BAD[1:2], np.array([[1.0, 0.0, 0.0]])))
    np.testing.assert_allclose(found, -np.log(1e-30), rtol=1e-5)


def test_divergence(xp):
    """Of equal distributions 0; of (3/4, 1/4) and (1/4, 3/4) by hand: 1/2 log 3 twice."""
    one, other = np.array([[0.5, 0.5], [0.75, 0.25]]), np.array([[0.5, 0.5], [0.25, 0.75]])
    np.testing.assert_allclose(scores.divergence(xp, one, other), [0, np.log(3)], atol=1e-7)


def test_divergence_is_both_relative_entropies(xp):
    rng = np.random.default_rng(0)
    one, other = rng.dirichlet(np.ones(7), (2, 5))
    both = np.sum(one * np.log(one / other) + other * np.log(other / one), axis=1)
    np.testing.assert_allclose(scores.divergence(xp, one, other), both, rtol=1e-5)


def test_divergence_of_what_excludes_each_other_is_finite(xp):
    found = scores.divergence(xp, np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
    np.testing.assert_allclose(found, 2 * np.log(1e30), rtol=1e-5)


def test_expert(xp):
    """Of the answers 0, 2, 0 the expert holds 1/2, 1/5, 1/4; the repaired net 1/4, 4/5, 1/2."""
    found = scores.expert_log_ratio(xp, BAD, REPAIRED, EXPERT)
    np.testing.assert_allclose(found, np.log([2, 0.25, 0.5]), rtol=1e-6)


def test_certainty_takes_the_entropy_over_the_classes(xp):
    """Two overlays. The first picture's classes are sure each time, though they differ: 0 bits,
    where the entropy over the overlays would be 1. The second: 1 bit and 2 bits.
    """
    overlaid = np.array(
        [
            [[1.0, 0, 0, 0], [0, 1.0, 0, 0]],
            [[0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25]],
        ]
    )
    np.testing.assert_allclose(scores.neg_entropy(xp, overlaid), [0, -1.5], atol=1e-6)


# Two pictures, of classes 2 and 0, with two regions each; three hosts of classes 2, 0 and 1.
OWN = np.float32([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1]])
HOSTS = np.array([2, 0, 1])
CARRIED = np.float32(
    [
        [
            [[0.0, 0.0, 1.0], [0.3, 0.3, 0.4], [0.1, 0.7, 0.2]],
            [[0.0, 0.0, 1.0], [0.2, 0.1, 0.7], [0.4, 0.1, 0.5]],
        ],
        [
            [[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.3, 0.3, 0.4]],
            [[0.2, 0.2, 0.6], [1.0, 0.0, 0.0], [0.2, 0.2, 0.6]],
        ],
    ]
)


def test_pasted_regions_by_hand(xp):
    """Hosts 0 and 1 count for the first picture, 2 and 1 for the second.

    The regions carry class 2 to them by (0.4 + 0.2) / 2 and (0.7 + 0.5) / 2, and class 0 by
    (0.9 + 0.3) / 2 and (0.2 + 0.2) / 2; what is left for the other classes is the rest.
    """
    found = scores.takeover(xp, OWN, CARRIED, HOSTS)
    np.testing.assert_allclose(found, -np.log([0.4, 0.4]), rtol=1e-6)
    # With a last host of class 0 the first picture has the same two, the second only the first.
    fewer = np.array([2, 0, 0])
    found = scores.takeover(xp, OWN, CARRIED, fewer)
    np.testing.assert_allclose(found, -np.log([0.4, 0.1]), rtol=1e-5)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_an_image_of_which_a_net_says_nothing_is_the_most_suspicious_of_all(xp, wrong):
    three = [BAD, REPAIRED, EXPERT]
    asked = {
        "hard": three[:2],
        "nll": three[:2],
        "divergence": three[:2],
        "expert_log_ratio": three,
        "neg_entropy": [np.stack([BAD, REPAIRED], axis=1)],
        "takeover": [OWN, CARRIED],
    }
    for name, answers in asked.items():
        more = [HOSTS] if name == "takeover" else []
        usual = np.asarray(getattr(scores, name)(xp, *answers, *more))
        for place in range(len(answers)):
            broken = [array.copy() for array in answers]
            broken[place][1].reshape(-1, 3)[0] = wrong
            found = np.asarray(getattr(scores, name)(xp, *broken, *more))
            assert found[1] == (1 if name == "hard" else np.inf), (name, place)
            np.testing.assert_allclose(np.delete(found, 1), np.delete(usual, 1), rtol=1e-6)


def test_entropies_that_are_no_whole_bits(xp):
    """0.8113 bits of 3/4 and 1/4, and 0 bits; higher is surer."""
    overlaid = np.array([[[0.75, 0.25], [0.75, 0.25]], [[0.75, 0.25], [1, 0]]])
    bits = 0.75 * np.log2(4 / 3) + 0.25 * 2
    np.testing.assert_allclose(scores.neg_entropy(xp, overlaid), [-bits, -bits / 2], rtol=1e-6)


def test_takeover_where_there_is_nothing_to_take_over(xp):
    """No overlay of another class; and one region on one overlay, whose probabilities sum to 1."""
    own, carried = np.float32([[0.2, 0.8, 0]] * 2), np.float32([[[[0.5, 0.25, 0.25]]]] * 2)
    np.testing.assert_array_equal(scores.takeover(xp, own, carried, np.array([1])), [0, 0])
    more_than_all = np.float32([[[[0.625, 0, 0.5]]]] * 2)  # rounding may leave that, of class 1
    np.testing.assert_array_equal(scores.takeover(xp, own, more_than_all, np.array([0])), [0, 0])
    own[1, 2] = np.nan
    found = np.asarray(scores.takeover(xp, own, carried, np.array([0])))
    np.testing.assert_allclose(found, [-np.log(0.75), np.inf], rtol=1e-6)


def test_each_detector_s_measure_takes_the_nets_that_it_asks():
    given = {"suspect": BAD, "repaired": REPAIRED, "expert": EXPERT}
    for method in DETECTORS:
        if "members" in method.facts:
            continue
        answers = [given[role] for role in roles_of(method.name)]
        if overlays_needed(method.name):  # two hosts, whose answers are all alike
            count = 2 * method.run.regions
            answers += [np.repeat(BAD[:, None], count, axis=1), np.array([0, 1])]
        assert method.run.measure(np, *answers).shape == (3,)


def test_a_score_at_its_threshold_passes(xp):
    """Of class 1 each: below, at and just above 0.5; no numbers; and a net without an answer."""
    scores_ = np.float32([0.25, 0.5, np.nextafter(np.float32(0.5), 1), *(np.nan, np.inf, -np.inf)])
    own = np.int32([1] * 6)
    found = scores.apply_thresholds(xp, own, [scores_], [0.5], 7)
    assert np.asarray(found).tolist() == [1, 1, 7, 7, 7, 7]
    none = np.int32([1, scores.NO_ANSWER])
    assert np.asarray(scores.apply_thresholds(xp, none, [], [], 7)).tolist() == [1, 7]


def test_any_score_above_its_own_threshold_counts(xp):
    pair = [np.float32([0, 2, 0, 2]), np.float32([5, 5, 7, 7])]
    found = scores.apply_thresholds(xp, np.int32([0, 1, 2, 3]), pair, [1.0, 6.0], 9)
    assert np.asarray(found).tolist() == [0, 9, 9, 9]
    with pytest.raises(ValueError, match="shorter"):  # each score has its own
        scores.apply_thresholds(xp, np.int32([0, 1, 2, 3]), pair, [1.0], 9)
