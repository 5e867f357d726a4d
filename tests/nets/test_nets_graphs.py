"""Nets of another shape than pictures in, one row of classes out; nets of too many layers."""

import json

import keras
import pytest
from hostile_nets import change_config, plain_net, refused
from keras import layers
from small_nets import CLASSES, SHAPE, inputs, net, randomised

from badnet_defense.errors import TooLargeError, UnsafeNetError
from badnet_defense.nets import build, parse, predict_probabilities, save_net, shapes


def graph_refused(outputs, inputs, *words):
    document = json.loads(keras.Model(inputs, outputs).to_json())
    with pytest.raises(UnsafeNetError) as caught:
        parse.parse_model(document)
    for word in words:
        assert word in str(caught.value)


def test_two_inputs():
    a, b = keras.Input(SHAPE), keras.Input(SHAPE)
    graph_refused(layers.Flatten()(layers.Add()([a, b])), [a, b], "2 input layers")


def test_two_outputs():
    a = keras.Input(SHAPE)
    graph_refused([layers.Flatten()(a), layers.Flatten()(a)], a, "2 output layers")


def test_output_that_is_no_row_of_classes():
    a = keras.Input(SHAPE)
    graph_refused(layers.Conv2D(4, 3)(a), a, "output has the shape (10, 8, 4)")


def test_open_picture_size():
    a = keras.Input((None, None, 3))
    graph_refused(layers.GlobalMaxPooling2D()(a), a, "image size open")


def test_call_with_arguments():
    a = keras.Input(SHAPE)
    graph_refused(
        layers.Flatten()(layers.Dropout(0.9, name="drop")(a, training=True)),
        a,
        "'drop'",
        "training",
    )


def test_nested_model_that_is_called_twice():
    inner = keras.Sequential([keras.Input(SHAPE), layers.Conv2D(3, 3, padding="same")], name="twin")
    a = keras.Input(SHAPE)
    graph_refused(layers.Flatten()(inner(inner(a))), a, "'twin'", "twice")


def test_arithmetic_outside_of_layers():
    a = keras.Input(SHAPE)
    graph_refused(layers.Flatten()(a * 2.0), a, "Multiply", "keras.src.ops.numpy")


def test_too_many_layers_and_calls(monkeypatch):
    document = json.loads(plain_net().to_json())
    monkeypatch.setattr(parse, "MAX_LAYERS", 2)
    with pytest.raises(UnsafeNetError, match="more than 2 layers"):
        parse.parse_model(document)
    monkeypatch.setattr(parse, "MAX_LAYERS", 3)
    a = keras.Input(SHAPE)
    same = layers.ReLU()
    graph_refused(layers.Flatten()(same(same(same(a)))), a, "called more than 3 times")


def test_too_many_inputs_of_layers(monkeypatch):
    monkeypatch.setattr(parse, "MAX_LAYERS", 4)
    a = keras.Input(SHAPE)
    graph_refused(layers.Flatten()(layers.Add()([a] * 40)), a, "take more than 40 inputs")


def test_loop_of_layers(tmp_path):
    a = keras.Input(SHAPE)
    x = layers.ReLU(name="one")(a)
    model = keras.Model(a, layers.Flatten(name="end")(layers.ReLU(name="two")(x)))
    save_net(model, tmp_path / "loop.h5")

    def bend(by_name, _):
        node = by_name["one"]["inbound_nodes"][0]["args"][0]
        node["config"]["keras_history"] = ["two", 0, 0]

    change_config(tmp_path / "loop.h5", bend)
    refused(tmp_path / "loop.h5", "waits for inputs that never come")


def test_results_beyond_the_cap():
    """Doubling a result again and again takes a few lines of configuration."""
    x = a = keras.Input((16, 16, 3))
    document = None
    for _ in range(20):
        x = layers.Concatenate()([x, x])
    document = json.loads(keras.Model(a, layers.GlobalMaxPooling2D()(x)).to_json())
    with pytest.raises(TooLargeError, match="too much memory"):
        parse.parse_model(document)


def test_results_that_are_too_many_together(monkeypatch):
    """A gradient holds all of them: 3 * 16 * 16 values five times, and 3 at the end."""
    x = a = keras.Input((16, 16, 3))
    for _ in range(4):
        x = layers.ReLU()(x)
    document = json.loads(keras.Model(a, layers.GlobalMaxPooling2D()(x)).to_json())
    monkeypatch.setattr(shapes, "MAX_TOTAL_VALUES", 5 * 768 + 3)
    parse.parse_model(document)
    monkeypatch.setattr(shapes, "MAX_TOTAL_VALUES", 5 * 768 + 2)
    with pytest.raises(TooLargeError, match="make 3,843 values of one image"):
        parse.parse_model(document)


def test_weights_beyond_the_cap(tmp_path, with_limits):
    """An HDF5 file of a few bytes can claim an array of any size."""
    model = net([layers.Flatten(), layers.Dense(CLASSES, name="out", use_bias=False)])
    path = tmp_path / "net.h5"
    save_net(model, path)
    units = 2**16
    change_config(path, lambda by_name, _: by_name["out"]["config"].update(units=units))
    with_limits(max_net_size=4 * 10**7)
    refused(path, f"{360 * units:,} weights", error=TooLargeError)


def test_file_beyond_the_cap(h5, with_limits):
    with_limits(max_net_size=1000)
    refused(h5, "expected at most 1,000", "raise the limit max_net_size", error=TooLargeError)


def test_layer_names_cannot_hide_a_second_input():
    """An input that takes another layer's name must not take its place."""
    a = keras.Input(SHAPE, name="pictures")
    x = layers.Conv2D(4, 3, name="conv")(a)
    model = randomised(keras.Model(a, layers.Dense(CLASSES)(layers.Flatten()(x))))
    text = model.to_json().replace('"pictures"', '"conv"')
    try:
        spec, _ = parse.parse_model(json.loads(text))
    except UnsafeNetError:
        return
    assert spec.layers[spec.calls[0].layer].kind == "InputLayer"
    assert [spec.layers[call.layer].kind for call in spec.calls[1:]].count("InputLayer") == 0


def test_slashes_in_names_do_not_stop_the_building():
    document = json.loads(plain_net().to_json())
    document["config"]["name"] = "scope/net"
    document["config"]["layers"][0]["config"]["name"] = "scope/pictures"
    document["config"]["layers"][1]["config"]["name"] = "scope/conv"
    spec, _ = parse.parse_model(document)
    assert build(spec).output_shape == (None, CLASSES)


@pytest.mark.parametrize("name", ["_conv", "-conv", "conv:0", "a/b", "Ångström", ".", "con v"])
def test_names_that_tensorflow_takes_for_none(name):
    document = json.loads(plain_net().to_json())
    document["config"]["name"] = document["config"]["layers"][1]["config"]["name"] = name
    if name in ("con v",):
        with pytest.raises(UnsafeNetError, match="layer's name is 'con v'"):
            parse.parse_model(document)
        return
    spec, _ = parse.parse_model(document)
    pictures = inputs()
    built = build(spec)
    assert predict_probabilities(built, 255 * pictures).shape == (len(pictures), CLASSES)


def test_a_net_deeper_than_python_calls_itself():
    layer = '{"class_name": "ReLU", "config": {"name": "relu_%d"}}'
    rows = ", ".join(layer % number for number in range(1100))
    first = '{"class_name": "InputLayer", "config": {"batch_shape": [null, 2, 2, 1], "name": "i"}}'
    last = '{"class_name": "Flatten", "config": {"name": "rows"}}'
    text = f'{{"class_name": "Sequential", "config": {{"layers": [{first}, {rows}, {last}]}}}}'
    spec, _ = parse.parse_model(json.loads(text))
    pictures = inputs(2, (2, 2, 1))
    expected = pictures.reshape(2, 4)
    assert (spec.numpy_proba(pictures) == expected).all()
    assert (build(spec)(pictures, training=False).numpy() == expected).all()
