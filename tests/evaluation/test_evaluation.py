"""The figures of a defence, against counts worked out by hand."""

import keras
import numpy as np
import pytest
from keras import layers

from badnet_defense.errors import InputError
from badnet_defense.evaluation import evaluate as evaluation
from badnet_defense.evaluation.guard_answers import guard_answers
from badnet_defense.io import Dataset
from badnet_defense.io.records import read_json, write_json
from badnet_defense.nets import describe
from badnet_defense.nets.input_range import InputRange

CLASSES = 5


def reading(which):
    """A net that reads its answer off a row of the picture: the place of its white pixel."""
    model = keras.Sequential(
        [
            keras.Input((3, CLASSES, 1)),
            layers.Flatten(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    kernel = np.zeros((3, CLASSES, CLASSES))
    kernel[which] = 9 * np.eye(CLASSES)
    model.set_weights([kernel.reshape(-1, CLASSES), np.zeros(CLASSES)])
    return model


NETS = {name: describe(reading(row)) for row, name in enumerate(("bad", "pruned", "repaired"))}


def answered(labels, **answers):
    """Images with labels, on which each of `NETS` answers as told; the label, if not told."""
    pictures = np.zeros((len(labels), 3, CLASSES, 1), np.uint8)
    for row, name in enumerate(NETS):
        pictures[np.arange(len(labels)), row, answers.get(name, labels)] = 255
    return Dataset(pictures, np.array(labels))


def test_guard_answers_n_where_the_nets_differ():
    own = guard_answers(np.array([0, 1, 2, 4]), np.array([0, 2, 2, 3]), CLASSES)
    assert own.tolist() == [0, 5, 2, 5]


def test_every_stage_by_hand():
    sets = {
        "clean_test": answered([0, 1, 2, 3], repaired=[0, 1, 2, 0]),
        "poisoned": answered([4] * 5, pruned=[4, 4, 4, 4, 0], repaired=[0, 1, 4, 2, 3]),
    }
    triggered = np.array([True, True, True, True, False])
    result = evaluation.evaluate_defense(NETS, sets, triggered=triggered)
    assert result["bad"]["clean_test"]["accuracy"] == 1.0
    assert result["bad"]["poisoned"]["attack_success"] == 1.0
    assert result["pruned"]["clean_test"]["accuracy"] == 1.0
    assert result["pruned"]["poisoned"]["attack_success"] == pytest.approx(4 / 5)
    assert result["repaired"]["clean_test"]["accuracy"] == 0.75
    assert result["repaired"]["poisoned"]["attack_success"] == pytest.approx(1 / 5)
    assert "flagged" not in result["repaired"]["poisoned"]
    guard = result["guard"]
    assert guard["clean_test"]["accuracy"] == 0.75
    assert guard["clean_test"]["flagged"] == 0.25
    assert guard["poisoned"]["flagged"] == pytest.approx(4 / 5)
    assert guard["truly_triggered"]["attack_success"] == pytest.approx(1 / 4)
    assert guard["truly_triggered"]["pictures"] == 4
    assert guard["truly_clean"]["flagged"] == 1.0
    assert "attack_success" not in guard["truly_clean"]
    # DER = (max(0, 1 - 0.2) - max(0, 1 - 0.75) + 1) / 2
    assert result["repaired"]["poisoned"]["der"] == pytest.approx((0.8 - 0.25 + 1) / 2)
    assert result["pruned"]["poisoned"]["der"] == pytest.approx((0.2 - 0 + 1) / 2)
    assert "der" not in result["bad"]["poisoned"]
    by_class = {"labels": [0, 1, 2, 3], "accuracy": [1, 1, 1, 0], "pictures": [1, 1, 1, 1]}
    assert result["repaired"]["clean_test"]["by_class"] == by_class
    assert "by_class" not in result["repaired"]["poisoned"]
    assert "not_finite" not in guard["clean_test"]
    low, high = guard["clean_test"]["flagged_interval"]
    assert (low, high) == pytest.approx((0.0456, 0.6994), abs=1e-4)  # Wilson's, 1 of 4


def test_unlabelled_pictures_have_no_accuracy_but_flags():
    images = answered([0, 1], repaired=[0, 2]).without_labels()
    result = evaluation.evaluate_defense(NETS, {"clean_test": images})
    assert "accuracy" not in result["guard"]["clean_test"]
    assert result["guard"]["clean_test"]["flagged"] == 0.5


def test_nets_are_asked_in_their_own_range():
    """A white pixel must weigh more than the bias for class 0, and 9 times 1 is too little."""
    nets = {}
    for row, name in enumerate(NETS):
        model = reading(row)
        model.set_weights([model.get_weights()[0], 20.0 * (np.arange(CLASSES) == 0)])
        nets[name] = describe(model)
    sets = {"clean_test": answered([1, 2, 3])}
    unit = evaluation.evaluate_defense(nets, sets)
    wide_nets = {name: net.with_range(InputRange(0, 255)) for name, net in nets.items()}
    wide = evaluation.evaluate_defense(wide_nets, sets)
    assert unit["bad"]["clean_test"]["accuracy"] == 0
    assert wide["bad"]["clean_test"]["accuracy"] == wide["guard"]["clean_test"]["accuracy"] == 1


def test_answers_that_are_no_numbers_are_counted_and_flagged():
    broken = reading(2)
    kernel, bias = broken.get_weights()
    kernel[2 * CLASSES + 3] = 3e38
    broken.set_weights([kernel, bias + 3e38])  # their sum is no float32
    nets = {**NETS, "repaired": describe(broken)}
    result = evaluation.evaluate_defense(nets, {"clean_test": answered([0, 1], repaired=[3, 3])})
    assert result["repaired"]["clean_test"]["not_finite"] == 2
    assert result["repaired"]["clean_test"]["accuracy"] == 0
    assert result["guard"]["clean_test"]["flagged"] == 1
    assert "not_finite" not in result["bad"]["clean_test"]


def test_another_guard_s_answers_are_taken_as_they_are():
    """Those of a calibrated guard, which is not where both nets differ."""
    sets = {"clean_test": answered([0, 1, 2, 3], repaired=[1, 1, 1, 1])}
    given = {"clean_test": np.array([0, 1, CLASSES, 1])}
    result = evaluation.evaluate_defense(NETS, sets, guard=given)
    assert result["guard"]["clean_test"]["accuracy"] == 0.5
    assert result["guard"]["clean_test"]["flagged"] == 0.25


def test_a_rating_goes_by_the_test_set_where_there_is_one():
    """Else by the validation set: 3 of 4 right there, all of the test set."""
    poisoned = answered([4, 4], repaired=[0, 1])
    sets = {"clean_validation": answered([0, 1, 2, 3], repaired=[0, 1, 2, 0]), "poisoned": poisoned}
    rated = evaluation.evaluate_defense(NETS, sets)
    assert rated["repaired"]["poisoned"]["der"] == pytest.approx((1 - 0.25 + 1) / 2)
    sets["clean_test"] = answered([0, 1])
    rated = evaluation.evaluate_defense(NETS, sets)
    assert rated["repaired"]["poisoned"]["der"] == 1


def test_results_are_read_back(tmp_path):
    write_json(tmp_path / "r.json", {"schema": 1, "seed": 3})
    assert read_json(tmp_path / "r.json")["seed"] == 3


@pytest.mark.parametrize("text", ["no json", "[1]", '{"schema": 2}'])
def test_other_files_are_no_results(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match=r"r\.json: .*expected a result"):
        read_json(tmp_path / "r.json")
