"""Loading nets: each file format and each allowed layer, against what Keras itself answers."""

import json

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from small_nets import CLASSES, SHAPE, inputs, net, randomised, residual_net, side_path_net

from badnet_defense.nets import build, copy_net, deep_id, describe, load_net, read_net
from badnet_defense.nets import save_net, save_weights
from badnet_defense.nets.kinds import KINDS
from badnet_defense.nets.kinds.activation import ACTIVATIONS


def answers(model, pictures):
    return np.asarray(model(pictures, training=False))


def assert_same(model, spec, shape=SHAPE):
    """NumPy's and the rebuilt net's answers are the original's."""
    pictures = inputs(shape=shape)
    expected = answers(model, pictures)
    np.testing.assert_allclose(spec.predict(pictures), expected, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(answers(build(spec), pictures), expected, atol=1e-6, rtol=1e-5)


def saved(model, folder, ending):
    path = folder / f"net{ending}"
    model.save(path)
    return path


def ends_in(*body):
    return [*body, layers.GlobalAveragePooling2D(), layers.Dense(CLASSES, activation="softmax")]


ONE_LAYER = {
    "Conv2D": [
        lambda: layers.Conv2D(4, 3),
        lambda: layers.Conv2D(4, (2, 3), strides=(2, 1), padding="same", activation="relu"),
        lambda: layers.Conv2D(6, 3, groups=3, use_bias=False),
        lambda: layers.Conv2D(4, 3, dilation_rate=2, padding="same"),
    ],
    "DepthwiseConv2D": [
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu"),
        lambda: layers.DepthwiseConv2D(2, strides=2, padding="same", use_bias=False),
        lambda: layers.DepthwiseConv2D(3, dilation_rate=2),
    ],
    "SeparableConv2D": [
        lambda: layers.SeparableConv2D(4, 3, depth_multiplier=2, activation="relu"),
        lambda: layers.SeparableConv2D(4, 3, strides=2, padding="same", use_bias=False),
        lambda: layers.SeparableConv2D(4, 3, dilation_rate=(2, 2), padding="same"),
    ],
    "Dense": [lambda: layers.Dense(4, activation="tanh"), lambda: layers.Dense(4, use_bias=False)],
    "MaxPooling2D": [
        lambda: layers.MaxPooling2D(),
        lambda: layers.MaxPooling2D(3, strides=2, padding="same"),
    ],
    "AveragePooling2D": [
        lambda: layers.AveragePooling2D((2, 3)),
        lambda: layers.AveragePooling2D(3, strides=2, padding="same"),
    ],
    "Reshape": [lambda: layers.Reshape((6, 20, 3)), lambda: layers.Reshape((5, -1, 6))],
    "Dropout": [lambda: layers.Dropout(0.5, seed=3)],
    "SpatialDropout2D": [lambda: layers.SpatialDropout2D(0.5)],
    "BatchNormalization": [
        lambda: layers.BatchNormalization(),
        lambda: layers.BatchNormalization(scale=False, epsilon=0.1),
        lambda: layers.BatchNormalization(center=False),
        lambda: layers.BatchNormalization(center=False, scale=False),
    ],
    "ReLU": [
        lambda: layers.ReLU(),
        lambda: layers.ReLU(max_value=0.6, negative_slope=0.2, threshold=0.3),
    ],
    "LeakyReLU": [lambda: layers.LeakyReLU(negative_slope=0.1)],
    "Softmax": [lambda: layers.Softmax()],
    "ZeroPadding2D": [
        lambda: layers.ZeroPadding2D(),
        lambda: layers.ZeroPadding2D(((1, 0), (2, 3))),
    ],
    "Rescaling": [
        lambda: layers.Rescaling(2.0, offset=-1.0),
        lambda: layers.Rescaling([1.0, 2.0, 0.5], offset=[0.1, -0.2, 0.0]),
    ],
}
WHOLE_NETS = {
    "Flatten": lambda: [layers.Flatten(), layers.Dense(CLASSES)],
    "GlobalMaxPooling2D": lambda: [
        layers.Conv2D(4, 3),
        layers.GlobalMaxPooling2D(),
        layers.Dense(CLASSES, activation="softmax"),
    ],
    "GlobalAveragePooling2D": lambda: [
        layers.Conv2D(CLASSES, 3),
        layers.GlobalAveragePooling2D(keepdims=True),
        layers.Flatten(),
        layers.Activation("softmax"),
    ],
}
JOINS = {"Add": layers.Add, "Multiply": layers.Multiply, "Concatenate": layers.Concatenate}
CASES = [
    pytest.param(make, id=f"{kind}-{number}")
    for kind, makers in ONE_LAYER.items()
    for number, make in enumerate(makers)
]


def test_every_allowed_layer_has_a_case_here():
    covered = {*ONE_LAYER, *WHOLE_NETS, *JOINS, "Activation", "InputLayer"}
    assert covered == set(KINDS)


@pytest.mark.parametrize("make", CASES)
def test_layer_answers_as_keras_does(make):
    model = net(ends_in(make()))
    assert_same(model, describe(model))


@pytest.mark.parametrize("kind", WHOLE_NETS)
def test_layer_between_pictures_and_rows_answers_as_keras_does(kind):
    model = net(WHOLE_NETS[kind]())
    assert_same(model, describe(model))


@pytest.mark.parametrize("kind", JOINS)
def test_join_answers_as_keras_does(kind):
    pictures = keras.Input(SHAPE)
    branches = [layers.Conv2D(4, 3, padding="same")(pictures) for _ in range(3)]
    x = layers.GlobalMaxPooling2D()(JOINS[kind]()(branches))
    model = randomised(keras.Model(pictures, layers.Dense(CLASSES)(x)))
    assert_same(model, describe(model))


def test_each_activation_answers_as_keras_does():
    x = np.linspace(-8, 8, 41, dtype=np.float32).reshape(1, -1)
    for name, function in ACTIVATIONS.items():
        expected = np.asarray(keras.activations.get(name)(x))
        np.testing.assert_allclose(function(x), expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_activation_layer_in_a_net():
    model = net(ends_in(layers.Conv2D(4, 3), layers.Activation("gelu")))
    assert_same(model, describe(model))


def all_kinds_net():
    """A Functional net with every allowed layer in it."""
    pictures = keras.Input(SHAPE, name="pictures")
    x = layers.Rescaling(2.0, offset=-1.0)(pictures)
    x = layers.ZeroPadding2D(1)(x)
    x = layers.Conv2D(6, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = skip = layers.ReLU()(x)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.SeparableConv2D(6, 3, padding="same")(x)
    x = layers.Activation("tanh")(layers.SpatialDropout2D(0.2)(x))
    x = layers.Add()([x, skip])
    gate = layers.Dense(6, activation="sigmoid")(layers.GlobalMaxPooling2D(keepdims=True)(x))
    x = layers.Multiply()([x, gate])
    x = layers.Concatenate()([layers.MaxPooling2D()(x), layers.AveragePooling2D(2)(x)])
    rows = layers.Flatten()(layers.Reshape((42, 6, 2))(x))
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.Dense(4)(rows)])
    x = layers.Dense(CLASSES)(layers.Dropout(0.3)(x))
    return randomised(keras.Model(pictures, layers.Softmax()(x)))


def nested_net():
    """A net around a Functional and a Sequential, with a repeated layer name inside."""
    inner = keras.Sequential(
        [keras.Input((10, 8, 4)), layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization()],
        name="inner",
    )
    start = keras.Input(SHAPE)
    deep = keras.Model(start, inner(layers.Conv2D(4, 3, name="conv")(start)), name="deep")
    pictures = keras.Input(SHAPE)
    head = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, activation="relu"), layers.Dense(CLASSES)], name="head"
    )
    x = layers.GlobalAveragePooling2D()(deep(layers.Dropout(0.1)(pictures)))
    return randomised(keras.Model(pictures, layers.Softmax()(head(x))))


def nested_in_sequential():
    inner = keras.Sequential([keras.Input(SHAPE), layers.Conv2D(4, 3), layers.ReLU()])
    return net([inner, layers.Flatten(), layers.Dense(CLASSES, activation="softmax")])


def shared_layer_net():
    """One convolution that is called twice."""
    pictures = keras.Input(SHAPE)
    same = layers.Conv2D(3, 3, padding="same", name="same")
    x = layers.Add()([same(pictures), same(layers.ReLU()(same(pictures)))])
    x = layers.Dense(CLASSES, activation="softmax")(layers.Flatten()(x))
    return randomised(keras.Model(pictures, x))


def frozen_net(thawed=False):
    """A nested net with frozen parts: older files store what was frozen last.

    All weights have the same shape, so that a wrong order would pass unnoticed.
    """
    inner = keras.Sequential(
        [
            keras.Input((3,)),
            layers.BatchNormalization(name="norm_1"),
            layers.Dense(3, name="frozen", use_bias=False),
            layers.BatchNormalization(name="norm_2"),
            layers.Dense(3, name="free", use_bias=False),
        ],
        name="inner",
    )
    for name in ("frozen", "norm_2"):
        inner.get_layer(name).trainable = False
    if thawed:  # frozen as a whole, and one layer thawed again
        inner.trainable = False
        inner.get_layer("free").trainable = inner.get_layer("norm_2").trainable = True
    return net([layers.GlobalAveragePooling2D(), inner, layers.Dense(CLASSES)])


NETS = {
    "all_kinds": all_kinds_net,
    "side_path": side_path_net,
    "residual": residual_net,
    "nested": nested_net,
    "nested_in_sequential": nested_in_sequential,
    "shared": shared_layer_net,
    "frozen": frozen_net,
    "thawed": lambda: frozen_net(thawed=True),
    "sequential": lambda: net(ends_in(layers.Conv2D(4, 3), layers.BatchNormalization())),
}


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("name", NETS)
def test_saved_net_is_read_as_it_was(name, ending, tmp_path):
    model = NETS[name]()
    assert_same(model, read_net(saved(model, tmp_path, ending)))


@pytest.mark.parametrize("name", NETS)
def test_description_and_copy_answer_as_the_model(name):
    model = NETS[name]()
    assert_same(model, describe(model))
    copied = copy_net(model)
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
    save_net(faces_net, tmp_path / "whole.h5", attributes={"source_sha256": "12ab"})
    save_weights(faces_net, tmp_path / "weights.h5")
    fresh = challenge_deep_id()
    fresh.load_weights(tmp_path / "weights.h5")
    pictures = inputs(3, (55, 47, 3))
    for again in (fresh, keras.saving.load_model(tmp_path / "whole.h5", compile=False)):
        np.testing.assert_allclose(
            answers(again, pictures), answers(faces_net, pictures), atol=1e-6
        )
    assert read_net(tmp_path / "whole.h5").attributes["source_sha256"] == "12ab"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["weights.h5", "whole.h5"]


def test_load_net_gives_a_keras_model_of_the_file(tmp_path):
    model = side_path_net()
    loaded = load_net(saved(model, tmp_path, ".h5"))
    assert isinstance(loaded, keras.Model)
    np.testing.assert_allclose(answers(loaded, inputs()), answers(model, inputs()), atol=1e-6)


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
