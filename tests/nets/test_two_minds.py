"""What is scanned is what runs: files that Keras reads as another net are read so, or refused."""

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
from hostile_base import h5_net, keras_net, layer
from hostile_nets import refused
from keras import layers
from many_nets import NETS, saved
from small_nets import CLASSES, SHAPE, randomised

from badnet_defense.errors import InputError, WeightError
from badnet_defense.nets import read_net

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
KERAS = """
import sys, keras, numpy as np
found = {}
for number, path in enumerate(sys.argv[2:]):
    try:
        net = keras.saving.load_model(path, compile=False)
        pixels = np.random.default_rng(1).random((6, *net.input_shape[1:]), dtype=np.float32)
        found[str(number)] = np.asarray(net(pixels, training=False))
    except Exception as error:
        print(path, error, file=sys.stderr)
np.savez(sys.argv[1], **found)
"""


def keras_answers(paths, folder):
    """{path: answers} of the files that Keras loads, in a process of its own."""
    command = [sys.executable, "-c", KERAS, str(folder / "answers.npz"), *map(str, paths)]
    subprocess.run(command, check=True, capture_output=True, timeout=200)
    found = np.load(folder / "answers.npz")
    return {path: found[str(number)] for number, path in enumerate(paths) if str(number) in found}


def own_answers(path):
    spec = read_net(path)
    return spec.numpy_proba(
        np.random.default_rng(1).random((6, *spec.input_shape), dtype=np.float32)
    )


def assert_as_keras(paths, expected):
    """Each file that is accepted answers as Keras' own loading of it; how many were."""
    accepted = 0
    for path in paths:
        try:
            answers = own_answers(path)
        except InputError:
            continue
        np.testing.assert_allclose(answers, expected[path], atol=2e-4, rtol=1e-3, err_msg=str(path))
        accepted += 1
    return accepted


def twins_net():
    """Two layers of one shape on two paths: which weights are whose decides on the answers."""
    pictures = keras.Input(SHAPE, name="pictures")
    one = layers.Conv2D(3, 3, name="one")(pictures)
    two = layers.Conv2D(3, 3, name="two", activation="relu")(pictures)
    x = layers.Flatten(name="rows")(layers.Add(name="sum")([one, two]))
    return randomised(keras.Model(pictures, layers.Dense(CLASSES, name="out")(x)))


def frozen_graph():
    """As `frozen_net(thawed=True)` with a Functional inside, which stays frozen when read again."""
    start = keras.Input((3,))
    x = layers.BatchNormalization(name="norm_1")(start)
    x = layers.Dense(3, name="frozen", use_bias=False)(x)
    x = layers.Dense(3, name="free", use_bias=False)(x)
    inner = keras.Model(start, x, name="inner")
    inner.trainable = False
    inner.get_layer("free").trainable = True
    pictures = keras.Input(SHAPE)
    x = inner(layers.GlobalAveragePooling2D()(pictures))
    return randomised(keras.Model(pictures, layers.Dense(CLASSES)(x)))


# Honest files ------------------------------------------------------------------------------------


def changed_keras(source, target, change_config=None, change_weights=None):
    """A copy of a `.keras` file with its configuration and its open weights changed."""
    with zipfile.ZipFile(source) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    if change_config is not None:
        document = json.loads(parts["config.json"])
        change_config(document)
        parts["config.json"] = json.dumps(document).encode()
    if change_weights is not None:
        content = io.BytesIO(parts["model.weights.h5"])
        with h5py.File(content, "r+") as file:
            change_weights(file)
        parts["model.weights.h5"] = content.getvalue()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return target


def turned(document):
    """Turns the layers of a Functional model, and of those in it, around."""
    config = document["config"]
    if "input_layers" in config:
        config["layers"].reverse()
        for inner in config["layers"]:
            turned(inner)


def turned_copy(source):
    """A file's copy with its configuration turned around; Keras goes by the graph."""
    target = source.with_stem("turned")
    if source.suffix == ".keras":
        return changed_keras(source, target, turned)
    target.write_bytes(source.read_bytes())
    with h5py.File(target, "r+") as file:
        document = json.loads(file.attrs["model_config"])
        turned(document)
        file.attrs["model_config"] = json.dumps(document)
    return target


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """(honest files, the same with their configurations turned around, what Keras answers)."""
    folder = tmp_path_factory.mktemp("corpus")
    honest = []
    for name, make in {**NETS, "twins": twins_net, "frozen_graph": frozen_graph}.items():
        (folder / name).mkdir()
        net = make()
        honest += [saved(net, folder / name, ending) for ending in (".h5", ".keras")]
    copies = [turned_copy(path) for path in honest]
    return honest, copies, keras_answers([*honest, *copies], folder)


def test_honest_files_answer_as_keras_own_loading(corpus):
    honest, _, expected = corpus
    assert assert_as_keras(honest, expected) == len(honest) - 1  # thawed.h5: Keras fails, too


def test_layers_are_numbered_as_the_graph_not_as_the_configuration(corpus):
    honest, copies, expected = corpus
    assert assert_as_keras(copies, expected) == len(copies) - 1
    for path, copy in zip(honest, copies, strict=True):
        if path in expected:
            np.testing.assert_allclose(own_answers(copy), own_answers(path), atol=1e-6)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="the published nets are not beside this project")
def test_published_files_answer_as_keras_own_loading(tmp_path):
    paths = sorted(SHARED.glob("*_nets/*_net.h5")) + sorted(SHARED.glob("keras2_nets/*.h5"))
    paths += sorted(SHARED.glob("foreign_nets/*.h*5"))
    readable = keras_answers(paths, tmp_path)  # Keras 3 reads no .h5 of Keras 2.0, for one
    assert assert_as_keras(list(readable), readable) >= 10


def windows(file, container="layers", doubled=False):
    """Renames a `.keras` file's groups as Keras 2.12 to 2.15 wrote them on Windows."""
    for name in list(file["layers"]):
        base, _, number = name.rpartition("_")
        stored = f"{base}_{2 * int(number)}" if doubled and number.isdecimal() else name
        file.move(f"layers/{name}", f"{container}\\{stored}")
        for inner in [one for one in file[f"{container}\\{stored}"] if one != "vars"]:
            raise AssertionError(f"{inner}: no nested nets here")
    del file["layers"]


@pytest.mark.parametrize("doubled", [False, True])
def test_files_of_keras_2_on_windows_are_read(doubled, tmp_path):
    """Layers with weights stand twice in `_layer_checkpoint_dependencies`: conv2d, conv2d_2."""
    source = saved(twins_net(), tmp_path, ".keras")
    container = "_layer_checkpoint_dependencies" if doubled else "layers"

    def rename(file):
        windows(file, container, doubled)

    path = changed_keras(source, tmp_path / "windows.keras", None, rename)
    np.testing.assert_array_equal(own_answers(path), own_answers(source))
    if doubled:
        dependencies = tmp_path / "slashes.keras"

        def with_slashes(file):
            rename(file)
            for name in [one for one in file if "\\" in one]:
                file.move(name, name.replace("\\", "/"))

        changed_keras(source, dependencies, None, with_slashes)
        np.testing.assert_array_equal(own_answers(dependencies), own_answers(source))


# Files of two minds, .h5 -------------------------------------------------------------------------


def test_a_second_set_of_weights_beside_the_first(tmp_path):
    def change(file):
        file.create_group("layers/conv2d/vars")["0"] = np.zeros((3, 3, 3, 4), np.float32)

    refused(h5_net(tmp_path, None, change), "'layers'", "read by none of the net's layers")


def test_a_list_of_layers_in_another_order(tmp_path):
    path = saved(twins_net(), tmp_path, ".h5")
    with h5py.File(path, "r+") as file:
        weights = file["model_weights"]
        names = [str(name) for name in weights.attrs["layer_names"]]
        one, two = names.index("one"), names.index("two")
        names[one], names[two] = names[two], names[one]
        weights.attrs["layer_names"] = names
    refused(path, "`layer_names` have 'two'", "'one'", error=WeightError)


def test_a_list_of_other_groups_than_the_layers(tmp_path):
    def change(file):
        weights = file["model_weights"]
        weights.copy("conv", "other")
        names = [str(name) for name in weights.attrs["layer_names"]]
        weights.attrs["layer_names"] = ["other" if name == "conv" else name for name in names]

    path = h5_net(tmp_path, None, change)
    refused(path, "'conv' is missing in its `layer_names`", error=WeightError)


@pytest.mark.parametrize(
    ("name", "change", "word"),
    [
        ("a group", lambda file: file.create_group("model_weights/more"), "'model_weights/more'"),
        ("a dataset", lambda file: file.__setitem__("extra", [1.0]), "'extra'"),
        (
            "a weight of no name",
            lambda file: file.__setitem__("model_weights/conv/more", [1.0]),
            "'model_weights/conv/more'",
        ),
        (
            "weights of the whole model",
            lambda file: file.__setitem__("model_weights/top_level_model_weights/0", [1.0]),
            "top_level_model_weights/0",
        ),
        (
            "a second list of layers",
            lambda file: file.attrs.__setitem__("layer_names", ["model_weights/out"]),
            "the note 'layer_names'",
        ),
        ("a note", lambda file: file.attrs.__setitem__("more", 1), "the note 'more'"),
        (
            "a layer's note",
            lambda file: file["model_weights/conv"].attrs.__setitem__("dtype", "float16"),
            "the note 'dtype'",
        ),
        (
            "names whole and in pieces",
            lambda file: file["model_weights/conv"].attrs.__setitem__("weight_names0", ["x"]),
            "'weight_names' whole and in pieces",
        ),
        (
            "a piece that no list reaches",
            lambda file: file["model_weights"].attrs.__setitem__("layer_names3", ["x"]),
            "'layer_names' whole and in pieces",
        ),
        (
            "kernels that Keras 2 turns",
            lambda file: file["model_weights"].attrs.__setitem__("backend", "theano"),
            "'theano'",
        ),
    ],
)
def test_whatever_is_left_over_in_an_h5_is_refused_by_name(name, change, word, tmp_path):
    refused(h5_net(tmp_path, None, change), word)


def test_a_model_that_keras_2_and_keras_3_read_in_different_orders(tmp_path):
    path = saved(frozen_graph(), tmp_path, ".h5")
    assert read_net(path).classes == CLASSES
    with h5py.File(path, "r+") as file:
        file["model_weights"].attrs["keras_version"] = "2.11.0"
    refused(path, "'inner'", "Keras 2 and Keras 3", "save it again", error=WeightError)


# Configurations ----------------------------------------------------------------------------------


def policy(name, kind="DTypePolicy", **more):
    config = {"name": name, **more}
    return {"module": "keras", "class_name": kind, "config": config, "registered_name": None}


@pytest.mark.parametrize(
    "dtype",
    [
        *("float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16", "int8"),
        policy("float16"),
        policy("mixed_float16"),
        policy("int8_from_float32", "QuantizedDTypePolicy", mode="int8", source_name="float32"),
        policy("float32", "DTypePolicyMap", default_policy=None),
        {"class_name": "Policy", "config": {"name": "mixed_float16"}},
    ],
)
@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_precision_that_is_not_computed_is_refused_by_layer(place, dtype, tmp_path):
    def change(document):
        layer(document, place)["config"]["dtype"] = dtype

    for write in (h5_net, keras_net):
        refused(write(tmp_path, change), "computes in", "expected 'float32'")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: layer(d)["config"].update(quantization_config={"mode": "int8"}), ["'quanti"]),
        (lambda d: layer(d, 3)["config"].update(lora_rank=4), ["'lora_rank'"]),
        (lambda d: layer(d).update(shared_object_id=7), ["'shared_object_id'"]),
        (lambda d: layer(d).update(weights=[1.0]), ["'weights'"]),
        (lambda d: d["config"].update(more=1), ["'more'"]),
        (lambda d: layer(d, 3)["config"].update(name="conv"), ["called 'conv'"]),
        (lambda d: layer(d)["config"].update(trainable="no"), ["trainable: 'no'"]),
        (lambda d: layer(d)["config"].update(data_format="tf"), ["'data_format'"]),
        (
            lambda d: layer(d, 0)["config"].update(batch_input_shape=[None, 99, 99, 3]),
            ["came twice"],
        ),
    ],
)
def test_settings_that_change_what_another_program_reads(change, words, tmp_path):
    refused(keras_net(tmp_path, change), *words)


def test_objects_that_share_an_identity_and_differ(tmp_path):
    """Keras takes the first object of an identity in place of all others."""

    def change(document):
        hidden = {**policy("float16"), "shared_object_id": 7}
        layer(document)["config"]["kernel_regularizer"] = hidden
        layer(document, 3)["config"]["dtype"] = {**policy("float32"), "shared_object_id": 7}

    refused(keras_net(tmp_path, change), "identity 7")


def graph(change, tmp_path):
    source = saved(twins_net(), tmp_path, ".keras")

    def changed(document):
        change({one["name"]: one for one in document["config"]["layers"]}, document)

    return changed_keras(source, tmp_path / "changed.keras", changed)


def test_a_layer_that_leads_nowhere(tmp_path):
    def add(by_name, document):
        dead = json.loads(json.dumps(by_name["one"]).replace('"one"', '"dead"'))
        document["config"]["layers"].append(dead)

    refused(graph(add, tmp_path), "'dead'", "does not lead to the output")


def test_a_layer_by_two_names_and_two_layers_by_one(tmp_path):
    def two_names(by_name, _):
        by_name["one"]["config"]["name"] = "another"

    refused(graph(two_names, tmp_path), "'one' and 'another'")


def test_a_nested_model_that_is_given_another_shape_than_it_says(tmp_path):
    inner = keras.Sequential([keras.Input((3,)), layers.Softmax(name="soft")], name="inner")
    pictures = keras.Input(SHAPE)
    x = inner(layers.GlobalAveragePooling2D()(pictures))
    model = randomised(keras.Model(pictures, layers.Dense(CLASSES)(x)))
    source = saved(model, tmp_path, ".keras")
    read_net(source)

    def change(document):
        nested = next(one for one in document["config"]["layers"] if one["name"] == "inner")
        nested["config"]["layers"][0]["config"]["batch_shape"] = [None, 3, 1]

    path = changed_keras(source, tmp_path / "changed.keras", change)
    refused(path, "says that it takes (3, 1), but gets (3,)")


# Files of two minds, .keras ----------------------------------------------------------------------


def second_set(file):
    file.copy("layers/conv2d", "layers/conv2d_1")


def second_container(file):
    file.copy("layers", "_layer_checkpoint_dependencies")


def one_array_more(file):
    file["layers/conv2d/vars/2"] = [1.0]


def weights_by_name(file):
    file.create_group("model_weights/conv")


def cast_by_a_note(file):
    file["layers/conv2d/vars/0"].attrs["dtype"] = "bfloat16"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (second_set, "'layers/conv2d_1'"),
        (second_container, "_layer_checkpoint_dependencies"),
        (one_array_more, "'layers/conv2d/vars/2'"),
        (weights_by_name, "'model_weights'"),
        (cast_by_a_note, "the note 'dtype'"),
    ],
)
def test_whatever_is_left_over_in_a_keras_file_is_refused_by_name(change, word, tmp_path):
    source = keras_net(tmp_path)
    refused(changed_keras(source, tmp_path / "changed.keras", None, change), word)


def test_what_training_leaves_is_passed_over(tmp_path):
    def train(file):
        file["optimizer/vars/0"] = [1.0]
        file["metrics/mean/vars/0"] = 1.0

    source = keras_net(tmp_path)
    path = changed_keras(source, tmp_path / "trained.keras", None, train)
    np.testing.assert_array_equal(own_answers(path), own_answers(source))


def test_a_net_that_changes_while_it_is_read(h5, monkeypatch, with_limits):
    with_limits(isolate=False)
    from badnet_defense.nets import reader as loader

    real, calls = loader.file_content, []

    def swapped(path):
        calls.append(path)
        path.write_bytes(path.read_bytes() + b"\0")
        return real(path)

    monkeypatch.setattr(loader, "file_content", swapped)
    refused(h5, "changed while it was read", error=InputError)
    assert calls == [h5]


def test_the_noted_hash_is_that_of_the_bytes(h5, with_limits):
    from badnet_defense.io.files import file_sha256

    for isolate in (False, True):
        with_limits(isolate=isolate)
        assert read_net(h5).attributes["file_sha256"] == file_sha256(h5)
