"""The disagreement guard of nets with one layer, against two predictions and a comparison."""

import keras
import numpy as np
import pytest
from keras import layers
from small_nets import images, net

from badnet_defense.errors import InputError
from badnet_defense.guards.disagreement import (
    build_guard,
    build_portable_guard,
    disagreement,
)
from badnet_defense.nets import describe
from badnet_defense.nets.input_range import InputRange

SHAPE, N = (6, 5, 3), 4
BOTH = (build_guard, build_portable_guard)
INPUTS = images(40, shape=SHAPE, seed=3).images / np.float32(255)


def one_layer(seed, *, shape=SHAPE, classes=N):
    made = net([layers.Flatten(), layers.Dense(classes, activation="softmax")], shape=shape)
    rng = np.random.default_rng(seed)
    made.set_weights([rng.normal(size=weight.shape) for weight in made.get_weights()])
    return describe(made)


SUSPECT, REPAIRED = one_layer(0), one_layer(1)
CLASSES = SUSPECT.numpy_proba(INPUTS).argmax(axis=1)


@pytest.mark.parametrize("build", BOTH)
def test_n_where_both_differ(build):
    guard = build(SUSPECT, REPAIRED)
    differ = REPAIRED.numpy_proba(INPUTS).argmax(axis=1) != CLASSES
    answers = guard(INPUTS).numpy()
    np.testing.assert_array_equal(answers, np.where(differ, N, CLASSES))
    assert 0 < differ.mean() < 1 and len(set(answers[~differ])) > 1
    assert answers.dtype == np.int32
    assert guard.input_shape == (None, *SHAPE) and guard.output_shape == (None,)
    assert guard.name == "guard" and guard.layers[0].name == "pictures"


@pytest.mark.parametrize("build", BOTH)
def test_a_net_beside_itself_flags_nothing(build):
    np.testing.assert_array_equal(build(SUSPECT, SUSPECT)(INPUTS).numpy(), CLASSES)


@pytest.mark.parametrize("build", BOTH)
@pytest.mark.parametrize("broken", [0, 1])
def test_an_answer_that_is_not_finite_is_flagged(build, broken):
    """Of one net; also where the other one names class 0, as argmax of no numbers does."""
    nets = [one_layer(0), one_layer(0)]
    (dense,) = (layer for layer in nets[broken].layers.values() if layer.kind == "Dense")
    dense.weights[1][:] = np.nan
    answers = build(*nets)(INPUTS).numpy()
    assert (CLASSES == 0).any() and (answers == N).all()


def test_the_rule_on_given_answers():
    suspect = np.float32([[0.1, 0.9, 0], [0.6, 0.4, 0], [0.2, 0.2, 0.6], [np.nan, 0, 0]])
    repaired = np.float32([[0.3, 0.7, 0], [0.4, 0.6, 0], [0, 0.1, 0.9], [1, 0, 0]])
    assert np.asarray(disagreement([suspect, repaired])).tolist() == [1, 3, 2, 3]
    assert np.asarray(disagreement([repaired, suspect], [0, 1])).tolist() == [1, 3, 2, 3]


@pytest.mark.parametrize("build", BOTH)
def test_its_parts_have_names_and_are_copies(build):
    guard = build(SUSPECT, REPAIRED)
    parts = {part.name: part for part in guard.layers}
    for name, original in (("suspect", SUSPECT), ("repaired", REPAIRED)):
        found = parts[name](INPUTS).numpy()
        np.testing.assert_allclose(found, original.numpy_proba(INPUTS), rtol=1e-5, atol=1e-7)
    before = guard(INPUTS).numpy()
    parts["suspect"].set_weights([0 * weight for weight in parts["suspect"].get_weights()])
    assert (guard(INPUTS).numpy() != before).any()
    np.testing.assert_array_equal(SUSPECT.numpy_proba(INPUTS).argmax(axis=1), CLASSES)


def test_its_file_holds_the_suspect_model_s_range():
    guard = build_guard(SUSPECT.with_range(InputRange(-1, 1)), REPAIRED)
    (join,) = (part for part in guard.layers if part.name == "guard_rule")
    described = join.arguments["description"]
    assert described["input_range"] == [-1.0, 1.0]
    assert all(type(one) is float for one in described["input_range"])
    saved = keras.saving.serialize_keras_object(disagreement)
    assert saved["config"] == "badnet_defense>disagreement"


@pytest.mark.parametrize("build", BOTH)
@pytest.mark.parametrize(
    ("other", "words"),
    [
        (one_layer(1, classes=3), r"maps \(6, 5, 3\) to 3 classes, .* maps \(6, 5, 3\) to 4"),
        (one_layer(1, classes=5), r"maps \(6, 5, 3\) to 5 classes, .* maps \(6, 5, 3\) to 4"),
        (one_layer(1, shape=(5, 6, 3)), r"maps \(5, 6, 3\) to 4 classes, .* \(6, 5, 3\) to 4"),
    ],
)
def test_nets_of_other_shapes_are_refused(build, other, words):
    with pytest.raises(InputError, match=f"repaired model {words}; give the repair of this very"):
        build(SUSPECT, other)
