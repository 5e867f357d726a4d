"""Nets as Keras 1 and 2 wrote them."""

import json

import h5py
import keras
import pytest
from keras import layers
from many_nets import (
    all_kinds_net,
    assert_same,
    nested_in_sequential,
    nested_net,
    saved,
    shared_layer_net,
)
from small_nets import CLASSES, SHAPE, net, randomised, side_path_net

from badnet_defense.nets import read_net

KERAS1_INPUT = {
    "class_name": "InputLayer",
    "name": "pictures",
    "config": {
        "name": "pictures",
        "batch_input_shape": [None, *SHAPE],
        "input_dtype": "float32",
        "sparse": False,
    },
    "inbound_nodes": [],
}


def keras1_convolution(name, source):
    config = {
        "name": name,
        "trainable": True,
        "nb_filter": 4,
        "nb_row": 3,
        "nb_col": 2,
        "init": "glorot_uniform",
        "activation": "relu",
        "border_mode": "same",
        "subsample": [2, 1],
        "dim_ordering": "tf",
        "W_regularizer": None,
        "b_regularizer": None,
        "activity_regularizer": None,
        "W_constraint": None,
        "b_constraint": None,
        "bias": True,
    }
    nodes = [[[source, 0, 0]]]
    return {"class_name": "Convolution2D", "name": name, "config": config, "inbound_nodes": nodes}


def keras1_document(mode):
    """A net with two convolutions that are merged, as Keras 1.2 writes it."""
    plain = [
        ("Flatten", "rows", {"trainable": True}, ["merged"]),
        ("Dropout", "drop", {"trainable": True, "p": 0.5}, ["rows"]),
        ("Dense", "out", {"output_dim": CLASSES, "init": "uniform", "input_dim": None}, ["drop"]),
    ]
    plain[2][2].update(activation="softmax", bias=True, W_regularizer=None, trainable=True)
    merge = {"mode": mode, "concat_axis": -1, "dot_axes": -1, "mode_type": "raw"}
    merge.update(output_shape=None, output_shape_type="raw", arguments={}, output_mask=None)
    merge.update(output_mask_type="raw")
    plain.insert(0, ("Merge", "merged", merge, ["left", "right"]))
    rest = [
        {
            "class_name": kind,
            "name": name,
            "config": {"name": name, **config},
            "inbound_nodes": [[[source, 0, 0] for source in sources]],
        }
        for kind, name, config, sources in plain
    ]
    convolutions = [keras1_convolution(name, "pictures") for name in ("left", "right")]
    config = {"name": "old", "layers": [KERAS1_INPUT, *convolutions, *rest]}
    config.update(input_layers=[["pictures", 0, 0]], output_layers=[["out", 0, 0]])
    return {"class_name": "Model", "config": config}


def write_old_h5(path, document, weights):
    """A full net in the layout of Keras 1: `model_weights/<layer>/<layer>_W`."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(document).encode()
        file.attrs["keras_version"] = b"1.2.2"
        group = file.create_group("model_weights")
        group.attrs["keras_version"] = b"1.2.2"
        group.attrs["layer_names"] = [name.encode() for name in weights]
        for layer, arrays in weights.items():
            names = [f"{layer}_{letter}" for letter in "Wb"]
            stored = group.create_group(layer)
            stored.attrs["weight_names"] = [name.encode() for name in names]
            for name, array in zip(names, arrays, strict=True):
                stored[name] = array


@pytest.mark.parametrize("mode", ["sum", "mul", "concat"])
def test_keras_1_file(mode, tmp_path):
    pictures = keras.Input(SHAPE)
    settings = {"strides": (2, 1), "padding": "same", "activation": "relu"}
    both = [layers.Conv2D(4, (3, 2), name=side, **settings)(pictures) for side in ("left", "right")]
    joins = {"sum": layers.Add, "mul": layers.Multiply, "concat": layers.Concatenate}
    rows = layers.Flatten()(joins[mode]()(both))
    output = layers.Dense(CLASSES, activation="softmax", name="out")(rows)
    model = randomised(keras.Model(pictures, output))
    weights = {name: model.get_layer(name).get_weights() for name in ("left", "right", "out")}
    write_old_h5(tmp_path / "old.h5", keras1_document(mode), weights)
    assert_same(model, read_net(tmp_path / "old.h5"))


def test_keras_1_sequential_with_padding_and_normalisation(tmp_path):
    first = {"name": "pad", "batch_input_shape": [None, *SHAPE], "padding": [1, 2]}
    first.update(dim_ordering="tf", trainable=True, input_dtype="float32")
    norm = {"name": "norm", "mode": 0, "axis": -1, "momentum": 0.99, "epsilon": 0.001}
    norm.update(gamma_regularizer=None, beta_regularizer=None)
    pool = {"name": "pool", "pool_size": [2, 2], "strides": [2, 2], "border_mode": "valid"}
    document = {
        "class_name": "Sequential",
        "config": [
            {"class_name": "ZeroPadding2D", "config": first},
            {"class_name": "BatchNormalization", "config": norm},
            {"class_name": "MaxPooling2D", "config": {**pool, "dim_ordering": "tf"}},
            {"class_name": "Flatten", "config": {"name": "rows", "trainable": True}},
            {"class_name": "Dense", "config": {"name": "out", "output_dim": CLASSES}},
        ],
    }
    model = net(
        [
            layers.ZeroPadding2D((1, 2)),
            layers.BatchNormalization(name="norm"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(CLASSES, name="out"),
        ]
    )
    path = tmp_path / "old.h5"
    write_old_h5(path, document, {"out": model.get_layer("out").get_weights()})
    with h5py.File(path, "r+") as file:
        file["model_weights"].attrs["layer_names"] = [b"norm", b"out"]
        group = file["model_weights"].create_group("norm")
        names = ["norm_gamma", "norm_beta", "norm_running_mean", "norm_running_std"]
        group.attrs["weight_names"] = [name.encode() for name in names]
        for name, array in zip(names, model.get_layer("norm").get_weights(), strict=True):
            group[name] = array
    assert_same(model, read_net(path))


def as_keras_2(document):
    """A Functional configuration of Keras 3 rewritten in the words of Keras 2.4."""
    for layer in document["config"]["layers"]:
        for key in ("module", "registered_name", "build_config"):
            layer.pop(key, None)
        config = layer["config"]
        if layer["class_name"] == "Functional":
            layer["config"] = as_keras_2(layer)["config"]
        if "layers" in config:
            layer["inbound_nodes"] = as_old_nodes(layer["inbound_nodes"])
            continue
        config["dtype"] = "float32"
        for key in [
            key for key in config if "initializer" in key and isinstance(config[key], dict)
        ]:
            config[key] = {"class_name": config[key]["class_name"], "config": {}}
        if layer["class_name"] == "InputLayer":
            config["batch_input_shape"] = config.pop("batch_shape")
            config.pop("optional", None)
            config.update(sparse=False, ragged=False)
        if layer["class_name"] == "LeakyReLU":
            config["alpha"] = config.pop("negative_slope")
        layer["inbound_nodes"] = as_old_nodes(layer["inbound_nodes"])
    config = document["config"]
    for end in ("input_layers", "output_layers"):
        config[end] = config[end] if isinstance(config[end][0], list) else [config[end]]
    return {"class_name": "Functional", "config": config}


def as_old_nodes(nodes):
    """`[["conv", 0, 0, {}]]` for each call."""
    arguments = [node["args"][0] for node in nodes]
    sources = [one if isinstance(one, list) else [one] for one in arguments]
    return [[[*source["config"]["keras_history"], {}] for source in node] for node in sources]


def counted_from_one(document):
    """Calls of nested models counted as Keras 2 does: the one that built the model came first."""
    nested = {one["name"] for one in document["config"]["layers"] if "layers" in one["config"]}
    for layer in document["config"]["layers"]:
        for node in layer["inbound_nodes"]:
            for source in node:
                source[1] += source[0] in nested
    for end in document["config"]["output_layers"]:
        end[1] += end[0] in nested
    return document


@pytest.mark.parametrize("make", [all_kinds_net, nested_net, shared_layer_net, side_path_net])
def test_keras_2_file(make, tmp_path):
    model = make()
    path = saved(model, tmp_path, ".h5")
    document = counted_from_one(as_keras_2(json.loads(model.to_json())))
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps(document)
        file.attrs["keras_version"] = "2.4.0"
    assert_same(model, read_net(path))


def test_long_lists_of_weight_names_are_stored_in_pieces(tmp_path):
    model = nested_in_sequential()
    path = saved(model, tmp_path, ".h5")
    with h5py.File(path, "r+") as file:
        stored = file["model_weights"][model.layers[0].name]
        names = stored.attrs["weight_names"]
        del stored.attrs["weight_names"]  # Keras splits what is longer than HDF5's 64 kB
        stored.attrs["weight_names0"], stored.attrs["weight_names1"] = names[:1], names[1:]
    assert_same(model, read_net(path))
