"""The figures of a defence, against counts worked out by hand."""

import numpy as np
import pytest

from badnet_defense.data import LabelledImages
from badnet_defense.data.input_range import UNIT, InputRange
from badnet_defense.errors import InputError
from badnet_defense.measure import belonging, evaluation
from badnet_defense.measure.guard_answers import guard_answers
from badnet_defense.measure.results import read_json, write_json

CLASSES = 5


def answering(monkeypatch, module, answers):
    """Lets `predict_labels` in `module` look answers up: net -> tag of the pictures -> labels."""

    def predict_labels(net, pictures, *, input_range):
        given = answers[net][int(pictures[0, 0, 0, 0])]
        return np.array(given(input_range) if callable(given) else given)

    monkeypatch.setattr(module, "predict_labels", predict_labels)


def tagged(tag, labels):
    pictures = np.full((len(labels), 1, 1, 1), tag, np.uint8)
    return LabelledImages(pictures, np.array(labels))


def test_guard_answers_n_where_the_nets_differ():
    own = guard_answers(np.array([0, 1, 2, 4]), np.array([0, 2, 2, 3]), CLASSES)
    assert own.tolist() == [0, 5, 2, 5]


def test_every_stage_by_hand(monkeypatch):
    test, poisoned = tagged(1, [0, 1, 2, 3]), tagged(2, [4, 4, 4, 4, 4])
    answers = {
        "bad": {1: [0, 1, 2, 3], 2: [4, 4, 4, 4, 4]},
        "repaired": {1: [0, 1, 2, 0], 2: [0, 1, 4, 2, 3]},
    }
    answering(monkeypatch, evaluation, answers)
    nets = {"bad": "bad", "repaired": "repaired"}
    triggered = np.array([True, True, True, True, False])
    result = evaluation.evaluate_defense(
        nets, {"clean_test": test, "poisoned": poisoned}, classes=CLASSES, triggered=triggered
    )
    assert result["bad"]["clean_test"]["accuracy"] == 1.0
    assert result["bad"]["poisoned"]["attack_success"] == 1.0
    assert result["repaired"]["clean_test"]["accuracy"] == 0.75
    assert result["repaired"]["poisoned"]["attack_success"] == pytest.approx(1 / 5)
    guard = result["guard"]
    assert guard["clean_test"]["accuracy"] == 0.75
    assert guard["clean_test"]["flagged"] == 0.25
    assert guard["poisoned"]["flagged"] == pytest.approx(4 / 5)
    assert guard["truly_triggered"]["attack_success"] == pytest.approx(1 / 4)
    assert guard["truly_clean"]["flagged"] == 1.0
    assert "attack_success" not in guard["truly_clean"]
    # DER = (max(0, 1 - 0.2) - max(0, 1 - 0.75) + 1) / 2
    assert result["repaired"]["poisoned"]["der"] == pytest.approx((0.8 - 0.25 + 1) / 2)
    assert "der" not in result["bad"]["poisoned"]
    low, high = guard["clean_test"]["flagged_interval"]
    assert 0 < low < 0.25 < high < 1


def test_unlabelled_pictures_have_no_accuracy_but_flags(monkeypatch):
    answers = {"bad": {1: [0, 1]}, "repaired": {1: [0, 2]}}
    answering(monkeypatch, evaluation, answers)
    images = tagged(1, [0, 1]).without_labels()
    nets = {"bad": "bad", "repaired": "repaired"}
    result = evaluation.evaluate_defense(nets, {"clean_test": images}, classes=CLASSES)
    assert "accuracy" not in result["guard"]["clean_test"]
    assert result["guard"]["clean_test"]["flagged"] == 0.5


def test_the_wrong_range_is_refused_with_the_flag(monkeypatch):
    right = np.arange(100) % CLASSES
    wrong = np.zeros(100, int)
    given = {"net": {1: lambda used: right if used == InputRange(0, 255) else wrong}}
    answering(monkeypatch, belonging, given)
    # A permuted sample has the same labels in another order; all pictures carry the tag alone.
    monkeypatch.setattr(belonging.np.random, "default_rng", lambda seed: _Unshuffled())
    with pytest.raises(InputError, match=r"--input-range 0,255"):
        belonging.check_belonging("net", tagged(1, right), classes=CLASSES, input_range=UNIT)
    belonging.check_belonging(
        "net", tagged(1, right), classes=CLASSES, input_range=InputRange(0, 255)
    )


def test_near_chance_is_reported(monkeypatch):
    labels = np.arange(100)
    answering(monkeypatch, belonging, {"net": {1: np.zeros(100, int)}})
    with pytest.raises(InputError, match="do not belong together"):
        belonging.check_belonging("net", tagged(1, labels), classes=100)


def test_unlabelled_pictures_pass(monkeypatch):
    answering(monkeypatch, belonging, {"net": {1: np.zeros(3, int)}})
    belonging.check_belonging("net", tagged(1, [1, 2, 3]).without_labels(), classes=CLASSES)


class _Unshuffled:
    @staticmethod
    def permutation(count):
        return np.arange(count)


def test_results_are_read_back(tmp_path):
    write_json(tmp_path / "r.json", {"schema": 1, "seed": 3})
    assert read_json(tmp_path / "r.json")["seed"] == 3


@pytest.mark.parametrize("text", ["no json", "[1]", '{"schema": 2}'])
def test_other_files_are_no_results(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match=r"r\.json: .*expected a result"):
        read_json(tmp_path / "r.json")
