"""What all detectors share, by nets whose answers are given row by row."""

from dataclasses import dataclass

import numpy as np
import pytest

from badnet_defense.detectors import DETECTORS, scores
from badnet_defense.detectors.base import DEFAULTS, Detector, DetectorConfig
from badnet_defense.detectors.hard_disagreement import HardDisagreement
from badnet_defense.detectors.nll import NLL
from badnet_defense.detectors.soft_disagreement import SoftDisagreement
from badnet_defense.errors import InputError
from badnet_defense.nets.answers import classes_of


@dataclass(frozen=True)
class Given:
    """A net that answers an image whose first pixel is i with the i-th row of probabilities."""

    rows: np.ndarray

    @property
    def classes(self):
        return self.rows.shape[1]

    def predict_proba(self, images):
        return self.rows[images[:, 0, 0, 0]]

    def predict(self, images):
        return classes_of(np, self.predict_proba(images))


def pixels(numbers):
    """Images (n, 1, 1, 1) of these rows."""
    return np.array(numbers)[:, None, None, None]


ALL = pixels(range(20))
SUSPECT = Given(np.stack([np.full(20, 0.75), np.full(20, 0.25)], axis=1))
REPAIRED = Given(np.stack([np.linspace(0.75, 0.05, 20), np.linspace(0.25, 0.95, 20)], axis=1))
"""Agrees with the suspect model on the first image, and less and less on the others."""


def divergences():
    first, second = SUSPECT.rows, REPAIRED.rows
    return ((first - second) * np.log(first / second)).sum(axis=1)


def test_a_detector_by_hand():
    """Of 19 clean images two may be flagged: the second largest of their scores is the limit."""
    detector = SoftDisagreement(SUSPECT, REPAIRED, config=DetectorConfig(0.1))
    assert detector.fit(ALL[:19]) is detector
    np.testing.assert_allclose(detector.anomaly_score(ALL), divergences())
    assert detector.threshold_ == pytest.approx(divergences()[17])
    assert detector.expected_.rate == pytest.approx(2 / 20) and detector.expected_.pictures == 19
    assert detector.predict(ALL).tolist() == [0] * 18 + [2, 2]
    assert detector.suspect is SUSPECT and detector.nets == {
        "suspect": SUSPECT,
        "repaired": REPAIRED,
    }


def test_the_suspect_model_s_answer_is_what_is_asked_about():
    """Which of the two nets is which matters to a score that is not symmetric."""
    detector = NLL(SUSPECT, REPAIRED)
    np.testing.assert_allclose(detector.anomaly_score(ALL), -np.log(REPAIRED.rows[:, 0]))


def test_the_hard_guard_only_measures_its_rate():
    detector = HardDisagreement(SUSPECT, REPAIRED, config=DetectorConfig(0.3))
    differ = REPAIRED.rows[:, 0] < 0.5
    assert detector.predict(ALL).tolist() == np.where(differ, 2, 0).tolist()  # without a fit
    assert detector.fit(ALL) is detector
    assert detector.threshold_ == 0.5
    assert detector.expected_.rate == pytest.approx(differ.mean()) and 0.5 < differ.mean() < 0.8
    assert detector.expected_.pictures == 20
    assert set(detector.anomaly_score(ALL)) == {0, 1}
    assert detector.nets == {"suspect": SUSPECT, "repaired": REPAIRED}


def test_what_a_detector_takes_for_itself_sets_no_threshold():
    class Taking(Detector):
        measure = staticmethod(scores.nll)

        def prepare(self, images):
            self.own_ = images[:5]
            return images[5:]

    detector = Taking({"suspect": SUSPECT, "repaired": REPAIRED}, DetectorConfig(0.1))
    detector.fit(ALL[::-1])  # the five most anomalous are taken
    assert detector.own_.ravel().tolist() == [19, 18, 17, 16, 15]
    assert detector.threshold_ == pytest.approx(-np.log(REPAIRED.rows[14, 0]))
    assert detector.expected_.pictures == 15


def test_raw_and_combined_scores_of_one_detector_are_its_scores():
    detector = SoftDisagreement(SUSPECT, REPAIRED)
    np.testing.assert_array_equal(detector.raw_scores(ALL), detector.anomaly_score(ALL))
    np.testing.assert_array_equal(detector.combined(np.array([3.0, 1])), [3, 1])


# Settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0, 1, -0.01, 1.01])
def test_rates_outside_their_range(rate):
    with pytest.raises(ValueError, match=rf"false_positive_rate is {rate}, expected one in"):
        DetectorConfig(rate)


def test_settings_are_shown_and_one_in_a_hundred_is_usual():
    assert DEFAULTS == DetectorConfig() == DetectorConfig(0.01)
    assert repr(SoftDisagreement(SUSPECT, REPAIRED)) == "SoftDisagreement(false_positive_rate=0.01)"
    assert DetectorConfig(0.999).false_positive_rate == 0.999
    with pytest.raises(AttributeError):
        DEFAULTS.false_positive_rate = 0.5


@pytest.mark.parametrize(
    ("name", "kind", "has_threshold"),
    [("hard", HardDisagreement, False), ("soft", SoftDisagreement, True), ("nll", NLL, True)],
)
def test_detectors_of_two_nets_are_registered(name, kind, has_threshold):
    method = DETECTORS[name]
    assert method.run is kind and method.config is DetectorConfig
    assert method.facts["needs_repair"] is True
    assert method.facts.get("has_threshold", True) is has_threshold
    named = kind(repaired=REPAIRED, suspect=SUSPECT)
    np.testing.assert_array_equal(
        named.anomaly_score(ALL), kind(SUSPECT, REPAIRED).anomaly_score(ALL)
    )


# Answers that are no probabilities ---------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        [0.5, 0.52],  # a sum of 1.02
        [0.5, 0.48],
        [1.02, -0.02],
        [2.0, -1.0],
    ],
)
def test_answers_that_are_no_probabilities_are_refused_by_the_net_s_name(row):
    others = np.tile([0.5, 0.5], (2, 1))
    broken = Given(np.vstack([others, [row]]))
    fine = Given(np.vstack([others, [[0.5, 0.5]]]))
    with pytest.raises(InputError, match="the suspect model does not answer with probabilities"):
        SoftDisagreement(broken, fine).anomaly_score(pixels(range(3)))
    with pytest.raises(InputError, match=r"the repaired model does not .*append a softmax"):
        SoftDisagreement(fine, broken).anomaly_score(pixels(range(3)))
    assert SoftDisagreement(fine, broken).anomaly_score(pixels(range(2))).tolist() == [0, 0]


def test_three_classes_are_as_good_as_two():
    rows = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    detector = HardDisagreement(Given(rows), Given(rows[:, ::-1]))
    assert detector.predict(pixels([0, 1])).tolist() == [3, 3]
    assert HardDisagreement(Given(rows), Given(rows)).predict(pixels([0, 1])).tolist() == [2, 0]


def test_one_number_for_each_image_is_no_probability():
    one = Given(np.ones((3, 1)))
    with pytest.raises(InputError, match="of two or more classes"):
        SoftDisagreement(one, one).anomaly_score(pixels(range(3)))


def test_rounding_is_no_fault_and_what_is_not_finite_is_flagged():
    rows = np.array([[0.5, 0.495], [0.5, 0.505], [1.01, -0.01], [0.2, 0.8]])
    unsure = np.vstack([rows[:3], [[np.nan, 0.5]]])
    detector = HardDisagreement(Given(rows), Given(unsure))
    assert detector.predict(pixels(range(4))).tolist() == [0, 1, 0, 2]
    detector = HardDisagreement(Given(unsure), Given(rows))
    assert detector.predict(pixels(range(4))).tolist() == [0, 1, 0, 2]
    nothing = Given(np.full((2, 2), np.nan))
    assert HardDisagreement(nothing, nothing).predict(pixels([0, 1])).tolist() == [2, 2]
