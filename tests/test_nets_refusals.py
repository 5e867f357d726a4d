"""Hostile and broken nets: refused in one sentence that names the cause, and nothing in them runs."""

import ast
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from small_nets import CLASSES, SHAPE, net, randomised

from badnet_defense.errors import InputError, UnsafeNetError
from badnet_defense.nets import build, describe, loader, parse, read_net, save_net, weights

ROOT = Path(__file__).resolve().parents[1]


def plain_net():
    return net(
        [
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.Flatten(name="rows"),
            layers.Dense(CLASSES, activation="softmax", name="out"),
        ]
    )


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    model = plain_net()
    save_net(model, folder / "net.h5")
    model.save(folder / "net.keras")
    return {ending: (folder / f"net.{ending}").read_bytes() for ending in ("h5", "keras")}


@pytest.fixture
def h5(originals, tmp_path):
    path = tmp_path / "net.h5"
    path.write_bytes(originals["h5"])
    return path


def refused(path, *words, error=UnsafeNetError):
    """Asserts that reading is refused in one line with the file's name and all `words`."""
    with pytest.raises(error) as caught:
        read_net(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    for word in words:
        assert word in message, message
    return message


def change_config(path, change):
    """Rewrites `model_config` after `change(layers by name, whole document)`."""
    with h5py.File(path, "r+") as file:
        document = json.loads(file.attrs["model_config"])
        by_name = {one["config"]["name"]: one for one in document["config"]["layers"]}
        change(by_name, document)
        file.attrs["model_config"] = json.dumps(document)


def replace_weight(path, make):
    """Replaces a stored array by `make(file, its name, its old values)`."""
    with h5py.File(path, "r+") as file:
        found = []
        file["model_weights/conv"].visititems(
            lambda name, node: found.append(name) if hasattr(node, "shape") else None
        )
        kernel = next(f"model_weights/conv/{one}" for one in found if "kernel" in one)
        values = file[kernel][...]
        del file[kernel]
        make(file, kernel, values)


# Code in files -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lambda_net(tmp_path_factory):
    """A net whose Lambda layer, once run, leaves a file behind; (the net, that file)."""
    trace = tmp_path_factory.mktemp("trace") / "ran.txt"
    code = f"lambda x: (open({str(trace)!r}, 'w').close(), x)[1]"
    model = net([layers.Flatten(), layers.Lambda(eval(code), name="evil"), layers.Dense(CLASSES)])
    trace.unlink()  # building the net ran it
    return model, trace


@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_lambda_is_refused_by_name_and_never_runs(lambda_net, ending, tmp_path):
    model, trace = lambda_net
    model.save(tmp_path / f"evil{ending}")
    trace.unlink(missing_ok=True)
    refused(tmp_path / f"evil{ending}", "'evil'", "Lambda")
    assert not trace.exists()
    # The file is armed: Keras itself runs it when told that it may.
    keras.saving.load_model(tmp_path / f"evil{ending}", safe_mode=False, compile=False)
    assert trace.exists()
    trace.unlink()


def test_lambda_inside_a_nested_model_is_refused(lambda_net, tmp_path):
    inner, trace = lambda_net
    outer = keras.Sequential([keras.Input(SHAPE), layers.Dropout(0.1), inner])
    outer.save(tmp_path / "outer.keras")
    trace.unlink(missing_ok=True)
    refused(tmp_path / "outer.keras", "'evil'", "Lambda")
    assert not trace.exists()
    with pytest.raises(UnsafeNetError, match="Lambda"):
        describe(outer)


@keras.saving.register_keras_serializable("somebody")
class Dense(layers.Dense):
    """A custom layer that calls itself by the name of a plain one."""


@keras.saving.register_keras_serializable("somebody")
def own_activation(x):
    return x


@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_custom_layer_that_poses_as_a_plain_one(ending, tmp_path):
    net([layers.Flatten(), Dense(CLASSES, name="mine")]).save(tmp_path / f"net{ending}")
    refused(tmp_path / f"net{ending}", "'mine'", "somebody>Dense")


@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_custom_activation(ending, tmp_path):
    model = net([layers.Flatten(), layers.Dense(CLASSES, own_activation, name="mine")])
    model.save(tmp_path / f"net{ending}")
    refused(tmp_path / f"net{ending}", "'mine'", "activation", "own_activation")


def test_layers_of_other_modules(h5):
    change_config(h5, lambda by_name, _: by_name["conv"].update(module="os.path"))
    refused(h5, "'conv'", "os.path")


def test_the_package_never_hands_a_file_to_keras():
    forbidden = {"load_model", "clone_model", "model_from_json", "from_config", "deserialize"}
    forbidden |= {"enable_unsafe_deserialization", "load_weights", "loads_pickle", "eval", "exec"}
    for path in (ROOT / "badnet_defense").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = getattr(node, "attr", None) or getattr(node, "id", None)
            assert name not in forbidden, f"{path.name} uses {name}"


def test_reading_a_net_needs_no_tensorflow(h5):
    code = (
        "import sys; from badnet_defense.nets import read_net; import numpy as np;"
        "read_net(sys.argv[1]).predict(np.zeros((1, 12, 10, 3)));"
        "print([m for m in ('tensorflow', 'keras', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(h5)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# Configurations ----------------------------------------------------------------------------------

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


def test_configuration_beyond_the_cap(h5, monkeypatch):
    monkeypatch.setattr(loader, "LARGEST_CONFIG", 100)
    refused(h5, "configuration is larger")


def test_unknown_model_class(h5):
    change_config(h5, lambda _, document: document.update(class_name="Evil"))
    refused(h5, "'Evil'")


# Graphs ------------------------------------------------------------------------------------------


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
    graph_refused(layers.GlobalMaxPooling2D()(a), a, "picture size open")


def test_call_with_arguments():
    a = keras.Input(SHAPE)
    graph_refused(
        layers.Flatten()(layers.Dropout(0.9, name="drop")(a, training=True)), a, "'drop'", "training"
    )


def test_nested_model_that_is_called_twice():
    inner = keras.Sequential([keras.Input(SHAPE), layers.Conv2D(3, 3, padding="same")], name="twin")
    a = keras.Input(SHAPE)
    graph_refused(layers.Flatten()(inner(inner(a))), a, "'twin'", "twice")


def test_arithmetic_outside_of_layers():
    a = keras.Input(SHAPE)
    graph_refused(layers.Flatten()(a * 2.0), a, "takes", "2.0")


def test_too_many_layers_and_calls(monkeypatch):
    document = json.loads(plain_net().to_json())
    monkeypatch.setattr(parse, "MOST_LAYERS", 2)
    with pytest.raises(UnsafeNetError, match="more than 2 layers"):
        parse.parse_model(document)
    monkeypatch.setattr(parse, "MOST_LAYERS", 3)
    a = keras.Input(SHAPE)
    same = layers.ReLU()
    graph_refused(layers.Flatten()(same(same(same(a)))), a, "called more than 3 times")


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
    with pytest.raises(UnsafeNetError, match="too much memory"):
        parse.parse_model(document)


def test_weights_beyond_the_cap(tmp_path, monkeypatch):
    """An HDF5 file of a few bytes can claim an array of any size."""
    model = net([layers.Flatten(), layers.Dense(CLASSES, name="out", use_bias=False)])
    path = tmp_path / "net.h5"
    save_net(model, path)
    units = 2**16
    change_config(path, lambda by_name, _: by_name["out"]["config"].update(units=units))
    monkeypatch.setattr(weights, "MOST_WEIGHTS", 10**7)
    refused(path, f"{360 * units} weights")


def test_file_beyond_the_cap(h5, monkeypatch):
    monkeypatch.setattr(loader, "LARGEST_NET", 1000)
    refused(h5, "larger than")


# Weights -----------------------------------------------------------------------------------------


def test_weight_of_another_shape(h5):
    replace_weight(h5, lambda file, name, old: file.create_dataset(name, data=old[:2]))
    refused(h5, "'conv/kernel'", "(2, 3, 3, 4)", "expected (3, 3, 3, 4)")


@pytest.mark.parametrize("dtype", ["int32", "bool", "S4", "complex64"])
def test_weight_of_another_dtype(dtype, h5):
    replace_weight(h5, lambda file, name, old: file.create_dataset(name, data=old.astype(dtype)))
    refused(h5, "'conv/kernel'", "dtype", "expected floats")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weight_that_is_not_finite(value, h5):
    def spoil(file, name, old):
        old[0, 0, 0, 0] = value
        file[name] = old

    replace_weight(h5, spoil)
    refused(h5, "'conv/kernel'", "NaN or infinity")


def test_weight_that_is_too_large_for_float32(h5):
    with np.errstate(over="ignore"):
        replace_weight(
            h5, lambda file, name, old: file.create_dataset(name, data=np.full(old.shape, 1e300))
        )
        refused(h5, "'conv/kernel'", "infinity")


def test_missing_weight(h5):
    replace_weight(h5, lambda file, name, old: None)
    refused(h5, "missing")


def test_missing_layer(h5):
    with h5py.File(h5, "r+") as file:
        del file["model_weights/out"]
    refused(h5, "'out' is missing")


def test_missing_weight_names(h5):
    with h5py.File(h5, "r+") as file:
        del file["model_weights/conv"].attrs["weight_names"]
    refused(h5, "'conv' has 0 weights; expected 2")


def test_group_and_empty_array_in_place_of_a_weight(h5):
    replace_weight(h5, lambda file, name, old: file.create_group(name))
    refused(h5, "'conv/kernel' is no array")
    path = h5.with_name("empty.h5")
    save_net(plain_net(), path)
    replace_weight(path, lambda file, name, old: file.create_dataset(name, data=h5py.Empty("f4")))
    refused(path, "'conv/kernel' is no array")


def test_links_out_of_the_place(h5, tmp_path):
    """A link is refused without being followed: neither the other file nor a device is opened."""
    path = tmp_path / "other.h5"
    original = h5.read_bytes()
    for link in (
        h5py.SoftLink("/model_weights/out"),
        h5py.ExternalLink(str(path), "/kernel"),
        h5py.ExternalLink("/no/such/file.h5", "/kernel"),
    ):
        h5.write_bytes(original)
        replace_weight(h5, lambda file, name, old, link=link: file.__setitem__(name, link))
        refused(h5, "is a link")


def test_linked_groups_and_containers(h5, originals, tmp_path):
    link = h5py.ExternalLink(str(tmp_path / "other.h5"), "/")
    for place in ("model_weights", "model_weights/conv", "layers"):
        h5.write_bytes(originals["h5"])
        with h5py.File(h5, "r+") as file:
            if place in file:
                del file[place]
            file[place] = link
        refused(h5, "is a link")


def test_virtual_and_external_arrays(h5, originals, tmp_path):
    def virtual(file, name, old):
        layout = h5py.VirtualLayout(old.shape, "f4")
        layout[...] = h5py.VirtualSource(str(tmp_path / "other.h5"), "kernel", old.shape)
        file.create_virtual_dataset(name, layout)

    def external(file, name, old):
        place = [(str(tmp_path / "raw.bin"), 0, old.nbytes)]
        file.create_dataset(name, old.shape, "f4", external=place)

    for make in (virtual, external):
        h5.write_bytes(originals["h5"])
        replace_weight(h5, make)
        refused(h5, "stored outside")


def test_weights_of_another_net_without_configuration(tmp_path):
    from badnet_defense.nets import save_weights

    save_weights(plain_net(), tmp_path / "weights.h5")
    refused(tmp_path / "weights.h5", "no net's configuration", "DeepID", error=InputError)


def test_data_file_in_place_of_a_net(tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["data"], file["label"] = np.zeros((2, 3, 4, 4)), np.zeros(2)
    refused(tmp_path / "data.h5", "no net's configuration", error=InputError)


# Files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["h5", "keras"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.999])
def test_truncated_file(ending, share, originals, tmp_path):
    path = tmp_path / f"cut.{ending}"
    whole = originals[ending]
    path.write_bytes(whole[: int(share * len(whole))])
    refused(path, "expected", error=InputError)


def test_changed_bytes_are_refused(originals, tmp_path):
    # Only .keras: in a damaged .h5 the HDF5 library itself may loop for ever.
    rng = np.random.default_rng(0)
    path = tmp_path / "changed.keras"
    with zipfile.ZipFile(io.BytesIO(originals["keras"])) as archive:
        parts = [archive.getinfo(name) for name in ("config.json", "model.weights.h5")]
    for _ in range(60):
        content = bytearray(originals["keras"])
        part = parts[rng.integers(2)]
        start = part.header_offset + 30 + len(part.filename)  # 30 bytes of zip header, then these
        place = start + rng.integers(part.file_size)
        content[place] ^= rng.integers(1, 256)
        path.write_bytes(content)
        refused(path, "expected", error=InputError)


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
    body = [layers.Rescaling(2.0), layers.ZeroPadding2D(1), layers.DepthwiseConv2D(3), layers.ReLU()]
    body += [layers.BatchNormalization(), layers.MaxPooling2D(), layers.Flatten(), layers.Dropout(0.5)]
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


def test_no_net_at_all(tmp_path):
    path = tmp_path / "net.h5"
    refused(path, "no such file", error=InputError)
    refused(tmp_path, "folder", error=InputError)
    for content in (b"", b"hello", b"\x89PNG\r\n\x1a\n"):
        path.write_bytes(content)
        refused(path, "neither an HDF5 file nor a .keras file", error=InputError)


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_zip_without_its_parts(originals, tmp_path):
    path = tmp_path / "net.keras"
    with zipfile.ZipFile(io.BytesIO(originals["keras"])) as archive:
        parts = {name: archive.read(name) for name in ("config.json", "model.weights.h5")}
    for missing in parts:
        zipped(path, {name: content for name, content in parts.items() if name != missing})
        refused(path, f"holds no {missing}", error=InputError)
    zipped(path, {**parts, "model.weights.h5": b"no HDF5"})
    refused(path, "damaged", error=InputError)
    zipped(path, {**parts, "config.json": b"no JSON"})
    refused(path, "not JSON")


def test_zip_that_unpacks_to_too_much(tmp_path, monkeypatch):
    path = tmp_path / "bomb.keras"
    zipped(path, {"config.json": b" " * 10_000, "model.weights.h5": b""})
    assert path.stat().st_size < 1000
    monkeypatch.setattr(loader, "LARGEST_CONFIG", 5_000)
    refused(path, "config.json unpacks to more")


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
