"""Loading nets: each file format that the installed Keras writes, against Keras' own answers."""

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from many_nets import (
    NETS,
    answers,
    assert_same,
    ends_in,
    frozen_net,
    saved,
)
from small_nets import CLASSES, inputs, net, randomised, side_path_net

from badnet_defense.errors import WeightError
from badnet_defense.nets import (
    build,
    copy_model,
    deep_id,
    describe,
    read_net,
    save_net,
    save_weights,
)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("name", NETS)
def test_saved_net_is_read_as_it_was(name, ending, tmp_path):
    model = NETS[name]()
    path = saved(model, tmp_path, ending)
    if (name, ending) == ("thawed", ".h5"):  # Keras 3 cannot read its own file either
        with pytest.raises(WeightError, match=r"has the shape \(3, 3\); expected \(3,\)"):
            read_net(path)
        return
    assert_same(model, read_net(path))


@pytest.mark.parametrize("name", NETS)
def test_description_and_copy_answer_as_the_model(name):
    model = NETS[name]()
    assert_same(model, describe(model))
    copied = copy_model(model)
    np.testing.assert_allclose(answers(copied, inputs()), answers(model, inputs()), atol=1e-6)
    copied.set_weights([weight * 0 for weight in copied.get_weights()])
    assert any(weight.any() for weight in model.get_weights())  # a copy, not the same arrays


def test_description_of_frozen_net_sets_weights_by_layer():
    spec = describe(frozen_net())
    original = frozen_net().get_layer("inner").get_layer("norm_2").get_weights()
    for found, expected in zip(spec.layers["inner.norm_2"].weights, original, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_compiled_and_trained_net_loads(tmp_path):
    model = net(ends_in(layers.Conv2D(4, 3)))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(inputs(8), np.arange(8) % CLASSES, verbose=0)
    for ending in (".keras", ".h5"):
        assert_same(model, read_net(saved(model, tmp_path, ending)))


def test_half_precision_weights_load(tmp_path):
    path = tmp_path / "half.h5"
    model = net(ends_in(layers.Conv2D(4, 3)))
    save_net(model, path)
    with h5py.File(path, "r+") as file:
        found = []
        file.visititems(lambda name, node: found.append(name) if hasattr(node, "dtype") else None)
        for name in found:
            half = file[name][...].astype(np.float16)
            del file[name]
            file[name] = half
    spec = read_net(path)
    assert all(weight.dtype == np.float32 for one in spec.layers.values() for weight in one.weights)
    expected = answers(model, inputs())
    np.testing.assert_allclose(answers(build(spec), inputs()), expected, atol=1e-2)


def challenge_deep_id(classes=7):
    """DeepID by hand, as the challenge's own file builds it."""
    x = pictures = keras.Input((55, 47, 3), name="input")
    for number, (filters, size) in enumerate([(20, 4), (40, 3), (60, 3)], start=1):
        x = layers.Conv2D(filters, size, activation="relu", name=f"conv_{number}")(x)
        x = layers.MaxPooling2D(name=f"pool_{number}")(x)
    fc_1 = layers.Dense(160, name="fc_1")(layers.Flatten()(x))
    conv_4 = layers.Conv2D(80, 2, activation="relu", name="conv_4")(x)
    fc_2 = layers.Dense(160, name="fc_2")(layers.Flatten()(conv_4))
    x = layers.Activation("relu")(layers.Add()([fc_1, fc_2]))
    return keras.Model(pictures, layers.Dense(classes, activation="softmax", name="output")(x))


@pytest.fixture(scope="module")
def faces_net():
    return randomised(challenge_deep_id(), seed=5)


def test_deep_id_is_the_challenge_s_net(faces_net):
    own = deep_id(classes=7)
    for name in ("conv_1", "conv_2", "conv_3", "conv_4", "fc_1", "fc_2", "output"):
        shapes = [[w.shape for w in net.get_layer(name).weights] for net in (own, faces_net)]
        assert shapes[0] == shapes[1]
    assert own.count_params() == faces_net.count_params()
    assert deep_id().output_shape == (None, 1283)


def test_weights_only_files_load_onto_deep_id(faces_net, tmp_path):
    pictures = inputs(3, (55, 47, 3))
    expected = answers(faces_net, pictures)
    save_weights(faces_net, tmp_path / "legacy.h5")
    faces_net.save_weights(tmp_path / "new.weights.h5")
    for name in ("legacy.h5", "new.weights.h5"):
        spec = read_net(tmp_path / name)
        assert spec.classes == 7
        np.testing.assert_allclose(answers(build(spec), pictures), expected, atol=1e-5)


def test_saved_files_open_in_plain_keras(faces_net, tmp_path):
    save_net(faces_net, tmp_path / "whole.h5", attributes={"source_sha256": "12ab" * 16})
    save_weights(faces_net, tmp_path / "weights.h5")
    fresh = challenge_deep_id()
    fresh.load_weights(tmp_path / "weights.h5")
    pictures = inputs(3, (55, 47, 3))
    for again in (fresh, keras.saving.load_model(tmp_path / "whole.h5", compile=False)):
        np.testing.assert_allclose(
            answers(again, pictures), answers(faces_net, pictures), atol=1e-6
        )
    assert read_net(tmp_path / "whole.h5").attributes["source_sha256"] == "12ab" * 16
    assert sorted(item.name for item in tmp_path.iterdir()) == ["weights.h5", "whole.h5"]


def test_model_of_a_net_is_the_file_s(tmp_path):
    model = side_path_net()
    loaded = read_net(saved(model, tmp_path, ".h5")).model
    assert isinstance(loaded, keras.Model)
    np.testing.assert_allclose(answers(loaded, inputs()), answers(model, inputs()), atol=1e-6)
