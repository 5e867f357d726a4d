"""Configurations of hostile nets: refused by the setting's name, or they can be built."""

import json

import h5py
import keras
import numpy as np
import pytest
from hostile_nets import change_config, refused
from keras import layers
from small_nets import CLASSES, SHAPE

from badnet_defense.errors import UnsafeNetError
from badnet_defense.nets import build, parse
from badnet_defense.nets import reader as loader

SETTINGS = {
    "unknown setting": ("conv", {"callback": "x"}, "unknown setting 'callback'"),
    "activation as a dict": (
        "conv",
        {"activation": {"class_name": "function", "config": "os.system"}},
        "activation",
    ),
    "unknown activation": ("conv", {"activation": "boom"}, "'boom'"),
    "no filters": ("conv", {"filters": 0}, "'filters': 0"),
    "filters beyond the cap": ("conv", {"filters": 2**16 + 1}, "'filters'"),
    "half a filter": ("conv", {"filters": 4.5}, "'filters': 4.5"),
    "true as a number": ("out", {"units": True}, "'units': True"),
    "three sides": ("conv", {"kernel_size": [3, 3, 3]}, "'kernel_size'"),
    "padding by a stranger": ("conv", {"padding": "causal"}, "'padding'"),
    "channels first": ("conv", {"data_format": "channels_first"}, "channels_first"),
    "kernel beyond the picture": ("conv", {"kernel_size": [13, 3]}, "does not fit"),
    "strides and dilation": (
        "conv",
        {"strides": 2, "dilation_rate": 2},
        "strides and dilation",
    ),
    "groups that do not divide": ("conv", {"groups": 2}, "groups"),
    "dtype": ("conv", {"dtype": "int8"}, "'int8'"),
    "dtype policy": (
        "conv",
        {"dtype": {"class_name": "DTypePolicy", "config": {"name": "string"}}},
        "'string'",
    ),
    "name": ("conv", {"name": "../../etc"}, "a layer's name"),
    "name that is no text": ("conv", {"name": ["conv"]}, "a layer's name"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_setting_is_refused_by_name(case, h5):
    layer, settings, words = SETTINGS[case]
    change_config(h5, lambda by_name, _: by_name[layer]["config"].update(settings))
    refused(h5, words)


def test_missing_setting(h5):
    change_config(h5, lambda by_name, _: by_name["out"]["config"].pop("units"))
    refused(h5, "'out'", "'units' is missing")


LAYERS = {
    "negative slope": layers.LeakyReLU(name="x"),
    "negative limit": layers.ReLU(max_value=6, name="x"),
    "renormalisation": layers.BatchNormalization(name="x"),
    "other axis": layers.BatchNormalization(name="x"),
    "reshape": layers.Reshape((6, 20, 3), name="x"),
    "open pixel size": layers.ZeroPadding2D(1, name="x"),
    "rate": layers.Dropout(0.5, name="x"),
    "other softmax axis": layers.Softmax(name="x"),
    "infinite scale": layers.Rescaling(2.0, name="x"),
    "scale for other channels": layers.Rescaling(2.0, name="x"),
}
LAYER_SETTINGS = {
    "negative slope": {"negative_slope": -1.0},
    "negative limit": {"max_value": -1.0},
    "renormalisation": {"renorm": True},
    "other axis": {"axis": 1},
    "reshape": {"target_shape": [7, -1]},
    "open pixel size": {"padding": [[1, 1], [1]]},
    "rate": {"rate": 1.5},
    "other softmax axis": {"axis": 1},
    "infinite scale": {"scale": float("inf")},
    "scale for other channels": {"scale": [1.0, 2.0]},
}


@pytest.mark.parametrize("case", LAYERS)
def test_setting_of_other_layers_is_refused(case):
    body = [LAYERS[case], layers.Flatten(), layers.Dense(2)]
    document = json.loads(keras.Sequential([keras.Input(SHAPE), *body]).to_json())
    parse.parse_model(document)
    next(one for one in document["config"]["layers"] if one["config"]["name"] == "x")[
        "config"
    ].update(LAYER_SETTINGS[case])
    with pytest.raises(UnsafeNetError, match="'x'"):
        parse.parse_model(document)


def test_configuration_that_is_no_json(h5):
    for document in ("{", b"\xff\xfe", "[" * 100_000, ""):
        with h5py.File(h5, "r+") as file:
            file.attrs["model_config"] = document if document else "nothing"
        refused(h5, "not JSON")


@pytest.mark.parametrize("document", ["5", "[]", '"net"', "{}", "null", '{"class_name": []}'])
def test_configuration_that_is_no_model(document, h5):
    with h5py.File(h5, "r+") as file:
        file.attrs["model_config"] = document
    refused(h5, "expected")


def test_configuration_that_is_no_text(h5):
    with h5py.File(h5, "r+") as file:
        file.attrs["model_config"] = 5
    refused(h5, "no text")


def test_configuration_beyond_the_cap(h5, monkeypatch, with_limits):
    with_limits(isolate=False)
    monkeypatch.setattr(loader, "MAX_CONFIG_SIZE", 100)
    refused(h5, "configuration is larger")


def test_unknown_model_class(h5):
    change_config(h5, lambda _, document: document.update(class_name="Evil"))
    refused(h5, "'Evil'")


def changed_text(text, rng):
    """`text` with some of its characters replaced by others of it: mostly still JSON."""
    letters = list(text)
    for place in rng.integers(0, len(letters), 3):
        letters[place] = letters[rng.integers(0, len(letters))]
    return "".join(letters)


def changed_value(document, rng):
    """`document` with one of its values replaced by one of another kind."""
    places = []

    def collect(node):
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                collect(node[key])

    collect(document)
    node, key = places[rng.integers(len(places))]
    strangers = [None, -1, 10**30, 1.5, float("nan"), "x", "", [], [[]], {}, {"config": None}, True]
    node[key] = strangers[rng.integers(len(strangers))]
    return document


def test_changed_configurations_are_refused_or_can_be_built():
    x = pictures = keras.Input(SHAPE)
    body = [
        layers.Rescaling(2.0),
        layers.ZeroPadding2D(1),
        layers.DepthwiseConv2D(3),
        layers.ReLU(),
    ]
    body += [
        layers.BatchNormalization(),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dropout(0.5),
    ]
    for layer in [*body, layers.Dense(CLASSES, activation="softmax")]:
        x = layer(x)
    text = keras.Model(pictures, x).to_json()
    rng = np.random.default_rng(0)
    built = 0
    for number in range(600):
        try:
            if number % 2:
                document = json.loads(changed_text(text, rng))
            else:
                document = changed_value(json.loads(text), rng)
            spec, _ = parse.parse_model(document)
        except (json.JSONDecodeError, UnsafeNetError):
            continue
        if number % 8 == 0:  # building takes longer than reading
            build(spec)
            built += 1
    assert built > 10
