"""The detectors: one shape for all, answers, thresholds and rates."""

import keras
import numpy as np
import pytest
from guard_pairs import PICTURES
from small_detectors import ALL, CLEAN, RATE, made
from small_nets import CLASSES, images

from badnet_defense.detectors.soft_disagreement import SoftDisagreement
from badnet_defense.errors import InputError
from badnet_defense.nets import build, describe
from badnet_defense.nets.input_range import InputRange


@pytest.mark.parametrize("name", ALL)
def test_answers_are_the_bad_net_s_or_n_above_the_threshold(name, fitted, trio):
    detector = fitted[name]
    scores = detector.anomaly_score(PICTURES)
    assert scores.shape == (len(PICTURES),)
    own = trio[0].predict(PICTURES)
    expected = np.where(scores > detector.threshold_, CLASSES, own)
    np.testing.assert_array_equal(detector.predict(PICTURES), expected)


@pytest.mark.parametrize("name", [name for name in ALL if name != "hard"])
def test_clean_pictures_keep_to_the_rate(name, fitted):
    detector = fitted[name]
    fresh = images(1500, shape=PICTURES.shape[1:], seed=6).images
    seen = np.mean(detector.predict(fresh) == CLASSES)
    assert detector.expected_.low - 0.03 < seen < detector.expected_.high + 0.03
    assert detector.expected_.rate <= RATE


def test_hard_answers_as_the_disagreement_guard_and_tells_its_rate(fitted, trio):
    first, second = (net.predict(CLEAN) for net in trio[:2])
    assert fitted["hard"].expected_.rate == pytest.approx(np.mean(first != second))
    np.testing.assert_array_equal(
        fitted["hard"].predict(CLEAN), np.where(first == second, first, CLASSES)
    )


def test_a_detector_shows_its_rate(fitted):
    assert repr(fitted["soft"]) == "SoftDisagreement(false_positive_rate=0.1)"
    assert "Strip" in repr(fitted["vote"])


@pytest.mark.parametrize("rate", [0, 1, -0.1, 2])
def test_rate_outside_its_range(rate, trio):
    with pytest.raises(ValueError, match="expected one in"):
        made("soft", trio, false_positive_rate=rate)


def test_too_few_clean_pictures(trio):
    with pytest.raises(InputError, match="takes at least 99"):
        made("soft", trio, false_positive_rate=0.01).fit(CLEAN[:50])


def test_input_range_is_the_nets(trio):
    """A net that takes 0-255 and divides by itself scores as the one that takes [0, 1]."""
    wide = [
        keras.Sequential(
            [keras.Input(net.input_shape), keras.layers.Rescaling(1 / 255), build(net)]
        )
        for net in trio[:2]
    ]
    wide = [describe(net).with_range(InputRange(0, 255)) for net in wide]
    found = SoftDisagreement(*wide).anomaly_score(PICTURES)
    np.testing.assert_allclose(found, made("soft", trio).anomaly_score(PICTURES), rtol=1e-4)


def test_answers_that_are_no_numbers_are_flagged(trio):
    detector = made("soft", trio).fit(CLEAN)
    assert detector.apply_threshold(np.array([1, 2]), np.array([np.nan, -9.0])).tolist() == [
        CLASSES,
        2,
    ]
    with pytest.raises(InputError, match="NaN"):
        detector.fit_scores(np.array([np.nan] + [1.0] * 50))


def test_a_clean_image_at_the_threshold_passes(trio):
    """Of 60 scores and a new one 6 may be flagged: the threshold is the sixth largest, 54."""
    scores = np.random.default_rng(0).permutation(60).astype(float)
    detector = made("soft", trio, false_positive_rate=0.1).fit_scores(scores)
    assert detector.threshold_ == 54
    flagged = detector.apply_threshold(np.zeros(60, int), scores) == CLASSES
    assert sorted(scores[flagged]) == [55, 56, 57, 58, 59]
