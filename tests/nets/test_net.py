"""`Net`: predictions on 0-255 images in its own range, and the range on its way through files."""

import copy
import pickle
from dataclasses import replace
from importlib import import_module

import keras
import numpy as np
import pytest
from small_nets import CLASSES, SHAPE, net, side_path_net

from badnet_defense.errors import InputError
from badnet_defense.nets import (
    as_given,
    as_probabilities,
    build,
    deep_id,
    describe,
    load_net,
    read_classifier,
    read_net,
    save_net,
)
from badnet_defense.nets.graph import without_softmax
from badnet_defense.nets.input_range import UNIT, InputRange
from badnet_defense.nets.outputs import FORM, LOGITS, SIGMOID, SIGMOIDS
from badnet_defense.nets.surgery import zero_channels

WIDE = InputRange(0, 255)
RANGES = [UNIT, WIDE, InputRange(-1, 1)]
IMAGES = np.random.default_rng(3).integers(0, 256, (11, *SHAPE), dtype=np.uint8)


def scaled(images, range_):
    """By the definition: 0 is `low`, 255 is `high`."""
    images = images.astype(np.float64)
    return (range_.low + images / 255 * (range_.high - range_.low)).astype(np.float32)


@pytest.mark.parametrize("range_", RANGES, ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_predictions_are_keras_own_on_scaled_images(range_, dtype):
    model = side_path_net()
    suspect = describe(model, range_)
    expected = model.predict(scaled(IMAGES, range_), verbose=0)
    images = IMAGES.astype(dtype)
    found = suspect.predict_proba(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    labels = suspect.predict(images)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, expected.argmax(axis=1))
    np.testing.assert_allclose(suspect.numpy_proba(scaled(IMAGES, range_)), expected, atol=1e-6)


def test_the_range_matters():
    """Otherwise the test above could not tell one range from another."""
    first, second = (describe(side_path_net(), range_) for range_ in (UNIT, WIDE))
    assert np.abs(first.predict_proba(IMAGES) - second.predict_proba(IMAGES)).max() > 0.01


def test_no_images_have_no_answers():
    suspect = describe(side_path_net())
    assert suspect.predict(IMAGES[:0]).shape == (0,)
    assert suspect.predict_proba(IMAGES[:0]).shape == (0, CLASSES)


@pytest.mark.parametrize("images", [IMAGES[0], IMAGES[:, :-1], IMAGES[..., :1], [[1, 2]]])
def test_images_of_another_shape_are_refused(images):
    suspect = describe(side_path_net())
    for predict in (suspect.predict, suspect.predict_proba):
        with pytest.raises(InputError, match=r"got images of shape .*; expected an array \(n, "):
            predict(images)


def test_the_model_is_built_once(monkeypatch):
    built, building = [], import_module("badnet_defense.nets.build")
    suspect = describe(side_path_net())
    plain = building.build
    monkeypatch.setattr(building, "build", lambda net: built.append(net) or plain(net))
    first = suspect.predict(IMAGES)
    np.testing.assert_array_equal(suspect.predict(IMAGES), first)
    assert suspect.model is suspect.model and built == [suspect]


def test_a_built_model_is_its_own():
    """`build` gives a model to train: the net's own one stays as it was."""
    suspect = describe(side_path_net())
    before, trained = suspect.predict_proba(IMAGES), build(suspect)
    assert trained is not suspect.model
    trained.set_weights([weight * 0 for weight in trained.get_weights()])
    np.testing.assert_array_equal(suspect.predict_proba(IMAGES), before)


@pytest.mark.parametrize(
    "twin",
    [
        lambda net: pickle.loads(pickle.dumps(net)),
        copy.copy,
        copy.deepcopy,
        lambda net: replace(net, name="other"),
    ],
    ids=["pickle", "copy", "deepcopy", "replace"],
)
def test_twins_leave_the_built_model_behind(twin):
    suspect = describe(side_path_net(), WIDE)
    answers, model = suspect.predict_proba(IMAGES), suspect.model
    other = twin(suspect)
    assert "model" not in vars(other) and suspect.model is model
    assert other.input_range == WIDE
    np.testing.assert_allclose(other.predict_proba(IMAGES), answers, atol=1e-6)
    assert other.model is not model


def ending(*last):
    return net([keras.layers.Flatten(), *last])


def test_surgery_keeps_the_range():
    suspect = describe(side_path_net(), WIDE)
    dense = keras.layers.Dense
    made = {
        LOGITS: as_probabilities(describe(ending(dense(CLASSES)), WIDE)),
        SIGMOIDS: as_probabilities(describe(ending(dense(CLASSES, "sigmoid")), WIDE)),
        SIGMOID: as_probabilities(describe(ending(dense(1, "sigmoid")), WIDE)),
    }
    assert {form: net.attributes[FORM] for form, net in made.items()} == {
        form: form for form in made
    }
    changed = [
        *made.values(),
        *(as_given(net, form) for form, net in made.items()),
        zero_channels(suspect, "conv_3", [1]),
        without_softmax(suspect),
    ]
    assert [net.input_range for net in changed] == [WIDE] * 8
    assert suspect.with_range(UNIT).input_range == UNIT and suspect.input_range == WIDE


def test_a_net_takes_0_to_1_unless_told_otherwise(tmp_path):
    save_net(side_path_net(), tmp_path / "net.h5")
    for read in (read_net, read_classifier, load_net):
        assert read(tmp_path / "net.h5").input_range == UNIT
        assert read(tmp_path / "net.h5", WIDE).input_range == WIDE
    assert describe(side_path_net()).input_range == UNIT


def test_a_recorded_range_is_the_net_s_and_another_is_refused(tmp_path):
    path = tmp_path / "net.h5"
    save_net(side_path_net(), path, attributes={"input_range": "0,255"})
    for read in (read_net, read_classifier, load_net):
        assert read(path).input_range == WIDE
        assert read(path, InputRange(0, 255.00000001)).input_range.high == 255.00000001
        with pytest.raises(
            InputError, match=r"net\.h5: it was made for pixels in 0,255, but 0,1 was asked for"
        ):
            read(path, UNIT)


def test_a_loaded_net_answers_with_probabilities(tmp_path):
    model = ending(keras.layers.Dense(CLASSES))
    save_net(model, tmp_path / "logits.h5")
    logits = model.predict(scaled(IMAGES, UNIT), verbose=0)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = powers / powers.sum(axis=1, keepdims=True)
    loaded = load_net(tmp_path / "logits.h5")
    np.testing.assert_allclose(loaded.predict_proba(IMAGES), expected, atol=1e-5)


def test_example_of_the_documentation():
    images = np.zeros((2, 55, 47, 3), "uint8")
    assert describe(deep_id(classes=10)).predict_proba(images).shape == (2, 10)


def test_a_saved_net_keeps_its_range(tmp_path):
    for range_ in (UNIT, WIDE):
        suspect = describe(side_path_net(), range_)
        save_net(suspect, tmp_path / "net.h5", attributes={"synthetic": True})
        loaded = load_net(tmp_path / "net.h5")
        assert loaded.input_range == range_ and loaded.attributes["synthetic"]
        np.testing.assert_array_equal(loaded.predict_proba(IMAGES), suspect.predict_proba(IMAGES))
