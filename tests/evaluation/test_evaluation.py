"""The figures of a defence, against counts worked out by hand."""

import numpy as np
import pytest

from badnet_defense.errors import InputError
from badnet_defense.evaluation import evaluate as evaluation
from badnet_defense.evaluation.guard_answers import guard_answers
from badnet_defense.io import Dataset
from badnet_defense.io.records import read_json, write_json

CLASSES = 5


def answering(monkeypatch, answers):
    """Lets `predict_labels` look answers up: net -> tag of the pictures -> labels."""

    def predict_labels(net, pictures, *, input_range):
        return np.array(answers[net][int(pictures[0, 0, 0, 0])])

    monkeypatch.setattr(evaluation, "predict_labels", predict_labels)


def tagged(tag, labels):
    pictures = np.full((len(labels), 1, 1, 1), tag, np.uint8)
    return Dataset(pictures, np.array(labels))


def test_guard_answers_n_where_the_nets_differ():
    own = guard_answers(np.array([0, 1, 2, 4]), np.array([0, 2, 2, 3]), CLASSES)
    assert own.tolist() == [0, 5, 2, 5]


def test_every_stage_by_hand(monkeypatch):
    test, poisoned = tagged(1, [0, 1, 2, 3]), tagged(2, [4, 4, 4, 4, 4])
    answers = {
        "bad": {1: [0, 1, 2, 3], 2: [4, 4, 4, 4, 4]},
        "repaired": {1: [0, 1, 2, 0], 2: [0, 1, 4, 2, 3]},
    }
    answering(monkeypatch, answers)
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
    by_class = {"labels": [0, 1, 2, 3], "accuracy": [1, 1, 1, 0], "pictures": [1, 1, 1, 1]}
    assert result["repaired"]["clean_test"]["by_class"] == by_class
    assert "by_class" not in result["repaired"]["poisoned"]
    low, high = guard["clean_test"]["flagged_interval"]
    assert 0 < low < 0.25 < high < 1


def test_unlabelled_pictures_have_no_accuracy_but_flags(monkeypatch):
    answers = {"bad": {1: [0, 1]}, "repaired": {1: [0, 2]}}
    answering(monkeypatch, answers)
    images = tagged(1, [0, 1]).without_labels()
    nets = {"bad": "bad", "repaired": "repaired"}
    result = evaluation.evaluate_defense(nets, {"clean_test": images}, classes=CLASSES)
    assert "accuracy" not in result["guard"]["clean_test"]
    assert result["guard"]["clean_test"]["flagged"] == 0.5


def test_results_are_read_back(tmp_path):
    write_json(tmp_path / "r.json", {"schema": 1, "seed": 3})
    assert read_json(tmp_path / "r.json")["seed"] == 3


@pytest.mark.parametrize("text", ["no json", "[1]", '{"schema": 2}'])
def test_other_files_are_no_results(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match=r"r\.json: .*expected a result"):
        read_json(tmp_path / "r.json")
