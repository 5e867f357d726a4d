"""The public `build_guard`: two models and clean images to one guard."""

import keras
import numpy as np
import pytest
from small_detectors import CLEAN, RATE
from small_nets import CLASSES

import badnet_defense as bd
from badnet_defense.detectors.calibration import threshold_at
from badnet_defense.detectors.soft_disagreement import SoftDisagreement
from badnet_defense.guards.reading import read_guard
from badnet_defense.nets.input_range import InputRange

DATA = bd.Dataset(CLEAN)


def test_without_clean_images_it_is_the_disagreement(trio):
    suspect, repaired, _ = trio
    guard = bd.build_guard(suspect, repaired)
    first, second = suspect.predict(CLEAN), repaired.predict(CLEAN)
    np.testing.assert_array_equal(guard.predict(CLEAN), np.where(first == second, first, CLASSES))
    assert guard.expected_ is None


def test_with_clean_images_it_keeps_to_the_rate(trio):
    """None of these images was tuned on: the threshold is the 30th largest of 300 scores."""
    suspect, repaired, _ = trio
    guard = bd.build_guard(suspect, repaired, DATA, false_positive_rate=RATE)
    scores = SoftDisagreement(suspect, repaired).anomaly_score(CLEAN)
    threshold, expected = threshold_at(scores, RATE)
    assert guard.detector.threshold_ == threshold == np.sort(scores)[-30]
    assert guard.expected_.rate == expected.rate
    assert np.sum(guard.predict(CLEAN) == CLASSES) == 29


def test_a_saved_guard_answers_the_same_in_the_suspect_model_s_range(trio, tmp_path):
    suspect, repaired, _ = (net.with_range(InputRange(-1, 1)) for net in trio)
    guard = bd.build_guard(suspect, repaired, DATA, false_positive_rate=RATE)
    guard.save(tmp_path / "guard.keras")
    expected = guard.predict(CLEAN)
    assert 0 < np.mean(expected == CLASSES) < 1
    inputs = suspect.input_range.scale(CLEAN)
    loaded = keras.saving.load_model(tmp_path / "guard.keras", safe_mode=True)
    sure = np.abs(guard.detector.anomaly_score(CLEAN) - guard.detector.threshold_) > 1e-4
    assert sure.mean() > 0.9
    for answers in (
        loaded.predict(inputs, verbose=0),
        guard.model.predict(inputs, verbose=0),
        read_guard(tmp_path / "guard.keras").answers(inputs),
    ):
        np.testing.assert_array_equal(answers[sure], expected[sure])


def test_a_detector_that_needs_no_repair(trio):
    guard = bd.build_guard(trio[0], None, DATA, detector="sentinet", false_positive_rate=RATE)
    assert guard.expected_.pictures == len(CLEAN) - 16
    assert repr(guard).startswith("Guard(SentiNet(")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((None, None), "the disagreement guard needs a repaired model"),
        ((None, DATA), "detector 'soft' needs a repaired model"),
        (("repaired", bd.Dataset(CLEAN[:50])), "at least 99 clean images .* got 50"),
    ],
)
def test_what_is_missing_is_said(arguments, message, trio):
    repaired, data = arguments
    with pytest.raises(bd.InputError, match=message):
        bd.build_guard(trio[0], repaired and trio[1], data)


def test_another_model_s_repair(trio):
    other = keras.Sequential(
        [keras.Input((12, 10, 3)), keras.layers.Flatten(), keras.layers.Dense(CLASSES + 1)]
    )
    with pytest.raises(bd.InputError, match="give the repair of this very model"):
        bd.build_guard(trio[0], bd.describe(other), DATA)
