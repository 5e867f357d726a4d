"""The disagreement guard: its answers, its files, and which repair belongs to which net."""

import io
import json
import subprocess
import sys
import zipfile
from functools import partial

import h5py
import keras
import numpy as np
import pytest
from guard_pairs import INPUTS, NETS, PICTURES, rewritten, two_nets
from keras import layers
from small_nets import CLASSES, net, randomised, side_path_net

from badnet_defense.errors import InputError, UnsafeNetError
from badnet_defense.evaluation.guard_answers import guard_answers
from badnet_defense.guards.description import parse_description
from badnet_defense.guards.disagreement import build_guard, build_portable_guard
from badnet_defense.guards.pairing import belongs, read_pair
from badnet_defense.guards.portable import export_portable
from badnet_defense.guards.reading import is_guard, read_guard
from badnet_defense.io.files import file_sha256
from badnet_defense.nets import describe, predict_labels, read_classifier, read_net, save_net
from badnet_defense.nets.input_range import InputRange


def expected_answers(suspect, repaired):
    """Two predict calls and a comparison."""
    both = (suspect, repaired)
    first, second = (one.model.predict(INPUTS, verbose=0).argmax(axis=1) for one in both)
    return np.where(first == second, first, CLASSES)


def described(models):
    return tuple(map(describe, models))


@pytest.fixture(scope="module")
def pair():
    return described(two_nets())


@pytest.fixture(scope="module")
def files(pair, tmp_path_factory):
    """The guard, with a Lambda and portable, as files."""
    folder = tmp_path_factory.mktemp("guards")
    build_guard(*pair).save(folder / "net.guard.keras")
    export_portable(*pair, folder / "portable.keras")
    return folder


@pytest.mark.parametrize("build", [build_guard, build_portable_guard])
@pytest.mark.parametrize("name", NETS)
def test_answers_equal_two_predictions_and_a_comparison(name, build):
    bad, repaired = described(two_nets(NETS[name]))
    expected = expected_answers(bad, repaired)
    assert 0 < np.mean(expected == CLASSES) < 1  # both kinds of answer are there
    guard = build(bad, repaired)
    answers = guard.predict(INPUTS, verbose=0)
    np.testing.assert_array_equal(answers, expected)
    assert answers.dtype == np.int32 and guard.output_shape == (None,)
    np.testing.assert_array_equal(predict_labels(guard, PICTURES), expected)


def test_guard_answers_of_two_rows():
    bad, repaired = np.array([0, 1, 2, 3]), np.array([0, 2, 2, 0])
    assert guard_answers(bad, repaired, 4).tolist() == [0, 4, 2, 4]


def test_nets_are_copied(pair):
    suspect, repaired = pair
    guard = build_guard(suspect, repaired)
    before = guard.predict(INPUTS, verbose=0)
    kept = suspect.model.get_weights()
    suspect.model.set_weights([weight * 0 for weight in kept])
    np.testing.assert_array_equal(guard.predict(INPUTS, verbose=0), before)
    suspect.model.set_weights(kept)
    assert suspect.model.name == suspect.name and repaired.model.name == repaired.name


def test_other_shapes_are_refused(pair):
    other = randomised(
        keras.Sequential([keras.Input((12, 10, 3)), layers.Flatten(), layers.Dense(CLASSES + 1)])
    )
    with pytest.raises(InputError, match=r"to 6 classes.*to 5;.*repair of this very model"):
        build_guard(pair[0], describe(other))


def test_file_names_its_function_and_holds_no_code(files):
    with zipfile.ZipFile(files / "net.guard.keras") as archive:
        text = archive.read("config.json").decode()
    assert "__lambda__" not in text
    join = next(
        one for one in json.loads(text)["config"]["layers"] if one["class_name"] == "Lambda"
    )
    assert join["config"]["function"]["config"] == "badnet_defense>guard_rule"


def test_saved_guard_loads_in_safe_mode(pair, files):
    loaded = keras.saving.load_model(files / "net.guard.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded.predict(INPUTS, verbose=0), expected_answers(*pair))


def test_portable_guard_loads_without_this_package(pair, files, tmp_path):
    np.save(tmp_path / "inputs.npy", INPUTS)
    code = (
        "import sys, keras, numpy as np\n"
        "guard = keras.saving.load_model(sys.argv[1], safe_mode=True)\n"
        "np.save('answers.npy', guard.predict(np.load('inputs.npy'), verbose=0))\n"
        "assert 'badnet_defense' not in sys.modules\n"
    )
    command = [sys.executable, "-I", "-c", code, str(files / "portable.keras")]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    np.testing.assert_array_equal(np.load(tmp_path / "answers.npy"), expected_answers(*pair))


def test_onnx_guard_answers_the_same(pair, tmp_path):
    pytest.importorskip("tf2onnx")
    runtime = pytest.importorskip("onnxruntime")
    export_portable(*pair, tmp_path / "guard.onnx")
    session = runtime.InferenceSession(tmp_path / "guard.onnx")
    answers = session.run(None, {"pictures": INPUTS})[0]
    np.testing.assert_array_equal(answers, expected_answers(*pair))
    noted = session.get_modelmeta().custom_metadata_map
    described = parse_description(json.loads(noted["badnet_defense_guard"]))
    assert described.detector == "hard" and described.input_range == InputRange(0, 1)


def test_portable_guard_under_another_suffix(pair, tmp_path):
    with pytest.raises(InputError, match=r"\.keras or \.onnx"):
        export_portable(*pair, tmp_path / "guard.h5")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["net.guard.keras", "portable.keras"])
def test_saved_guard_is_read_as_its_two_nets(name, pair, files):
    assert is_guard(files / name)
    for spec, model in zip(read_guard(files / name).nets.values(), pair, strict=True):
        np.testing.assert_allclose(
            spec.numpy_proba(INPUTS), model.model.predict(INPUTS, verbose=0), atol=1e-5
        )


@pytest.mark.parametrize("name", NETS)
def test_guard_of_any_net_is_read_back(name, tmp_path):
    both = described(two_nets(NETS[name]))
    build_guard(*both).save(tmp_path / "guard.keras")
    for spec, model in zip(read_guard(tmp_path / "guard.keras").nets.values(), both, strict=True):
        np.testing.assert_allclose(
            spec.numpy_proba(INPUTS), model.model.predict(INPUTS, verbose=0), atol=1e-5
        )


def another_function(layers):
    layers[3]["config"]["function"]["config"] = "somebody>else"


def pickled_function(layers):
    layers[3]["config"]["function"] = {"class_name": "__lambda__", "config": {"code": "4wAA"}}


def another_name(layers):
    layers[1]["name"] = "good"


def wired(layers, name, *sources):
    """Gives the layer `name` other results: [(layer, call), ..]."""
    one = next(one for one in layers if one["name"] == name)
    args = one["inbound_nodes"][0]["args"]
    tensors = args[0] if isinstance(args[0], list) else args
    for tensor, history in zip(tensors, sources, strict=True):
        tensor["config"]["keras_history"] = [*history, 0]


def suspect_twice(layers):
    wired(layers, "guard_rule", ("suspect", 0), ("suspect", 0))


def suspect_last(layers):
    wired(layers, "guard_rule", ("repaired", 0), ("suspect", 0))


def repair_of_answers(layers):
    wired(layers, "repaired", ("suspect", 0))


def layer_more(layers):
    extra = json.loads(json.dumps(layers[3]).replace('"guard_rule"', '"more"'))
    layers.append(extra)


def half_precision(layers):
    layers[3]["config"]["dtype"] = "float16"


def other_arguments(layers):
    layers[3]["config"]["arguments"] = {"axis": 0}


def range_that_is_none(layers):
    layers[3]["config"]["arguments"]["description"]["input_range"] = [1.0, 0.0]


def whole_numbers(layers):
    layers[0]["config"]["dtype"] = "int32"


def lambda_inside(layers):
    inner = layers[1]["config"]["layers"][1]
    inner.update(class_name="Lambda")


CHANGES = [
    *(another_function, pickled_function, another_name, suspect_twice, suspect_last, layer_more),
    *(repair_of_answers, half_precision, other_arguments, range_that_is_none, whole_numbers),
]


@pytest.mark.parametrize("change", CHANGES)
def test_file_that_is_no_guard_of_this_project(change, files, tmp_path):
    path = rewritten(files / "net.guard.keras", tmp_path / "changed.keras", change)
    assert not is_guard(path)
    with pytest.raises(UnsafeNetError, match="no guard of this project"):
        read_guard(path)


def operations(layers, kind):
    """Those of a portable guard's layers, in their order."""
    return [one for one in layers if one["class_name"] == kind]


def argmax_of_the_suspect_twice(layers):
    wired(layers, operations(layers, "Argmax")[1]["name"], ("suspect", 0))


def equal_to_itself(layers):
    own = operations(layers, "Argmax")[0]["name"]
    wired(layers, operations(layers, "Equal")[0]["name"], *[(own, 0)] * 2)


def finite_where_the_suspect_is(layers):
    wired(layers, operations(layers, "Sum")[1]["name"], ("suspect", 0))


def finite_always(layers):
    equal = operations(layers, "Equal")[0]["name"]
    wired(layers, operations(layers, "LogicalAnd")[0]["name"], *[(equal, 0)] * 2)


def argmax_over_images(layers):
    operations(layers, "Argmax")[0]["config"]["axis"] = 0


def another_class_for_poisoned(layers):
    operations(layers, "FullLike")[0]["inbound_nodes"][0]["args"][1] = 0


@pytest.mark.parametrize(
    "change",
    [
        *(argmax_of_the_suspect_twice, equal_to_itself, argmax_over_images),
        *(finite_where_the_suspect_is, finite_always, another_class_for_poisoned),
    ],
)
def test_portable_guard_that_is_wired_otherwise(change, files, tmp_path):
    path = rewritten(files / "portable.keras", tmp_path / "changed.keras", change)
    with pytest.raises(UnsafeNetError, match=r"no guard of this project|a guard of these"):
        read_guard(path)


def test_guards_hold_their_range(pair, tmp_path):
    wide = InputRange(-1, 1)
    both = [net.with_range(wide) for net in pair]
    build_guard(*both).save(tmp_path / "net.guard.keras")
    export_portable(*both, tmp_path / "portable.keras")
    for name in ("net.guard.keras", "portable.keras"):
        assert read_guard(tmp_path / name).description.input_range == wide
        loaded = keras.saving.load_model(tmp_path / name, safe_mode=True)
        np.testing.assert_array_equal(loaded.predict(INPUTS, verbose=0), expected_answers(*pair))


def as_version_0_1(layers, **arguments):
    """The same guard as version 0.1 wrote it: its function takes no description."""
    layers[1]["name"] = layers[1]["config"]["name"] = "bad"
    layers[3]["config"]["function"]["config"] = "badnet_defense>disagreement"
    layers[3]["config"]["arguments"] = arguments
    wired(layers, "guard_rule", ("bad", 0), ("repaired", 0))


@pytest.mark.parametrize("range_", [None, InputRange(-1, 1)])
def test_disagreement_guards_of_version_0_1_are_read(range_, pair, files, tmp_path):
    noted = {} if range_ is None else {"input_range": [-1.0, 1.0]}
    path = rewritten(
        files / "net.guard.keras", tmp_path / "old.keras", partial(as_version_0_1, **noted)
    )
    saved = read_guard(path)
    assert saved.description.input_range == range_
    np.testing.assert_array_equal(saved.answers(INPUTS), expected_answers(*pair))
    loaded = keras.saving.load_model(path, safe_mode=True)
    np.testing.assert_array_equal(loaded.predict(INPUTS, verbose=0), expected_answers(*pair))


def test_a_portable_guard_of_version_0_1_is_read(pair, files, tmp_path):
    """Its metadata hold its range alone."""
    path = tmp_path / "old.keras"
    with zipfile.ZipFile(files / "portable.keras") as new, zipfile.ZipFile(path, "w") as target:
        for name in new.namelist():
            content = new.read(name)
            if name == "metadata.json":
                metadata = json.loads(content)
                del metadata["badnet_defense_guard"]
                metadata["badnet_defense_input_range"] = [0.0, 1.0]
                content = json.dumps(metadata)
            target.writestr(name, content)
    saved = read_guard(path)
    assert saved.description.input_range == InputRange(0, 1)
    np.testing.assert_array_equal(saved.answers(INPUTS), expected_answers(*pair))


def test_layers_of_a_guard_s_net_in_another_order(files, tmp_path):
    """Its weights are numbered by the graph, whatever order the configuration has."""

    def turned(layers):
        layers[1]["config"]["layers"].reverse()

    path = rewritten(files / "net.guard.keras", tmp_path / "turned.keras", turned)
    for name in ("suspect", "repaired"):
        expected = read_guard(files / "net.guard.keras").nets[name].numpy_proba(INPUTS[:4])
        np.testing.assert_array_equal(read_guard(path).nets[name].numpy_proba(INPUTS[:4]), expected)


def test_whatever_is_left_over_in_a_guard_is_refused(files, tmp_path):
    path = tmp_path / "more.keras"
    with zipfile.ZipFile(files / "net.guard.keras") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = io.BytesIO(old.read(name))
            if name == "model.weights.h5":
                with h5py.File(content, "r+") as file:
                    file.copy("layers/functional", "layers/functional_2")
            new.writestr(name, content.getvalue())
    with pytest.raises(UnsafeNetError, match="functional_2"):
        read_guard(path)


def test_a_suspect_beside_itself_is_no_guard(pair, tmp_path):
    build_guard(pair[0], pair[0]).save(tmp_path / "twice.keras")
    with pytest.raises(UnsafeNetError, match="are one net, so it flags no image"):
        read_guard(tmp_path / "twice.keras")


def test_lambda_inside_a_guard_s_net_is_refused(files, tmp_path):
    path = rewritten(files / "net.guard.keras", tmp_path / "changed.keras", lambda_inside)
    with pytest.raises(UnsafeNetError, match="Lambda"):
        read_guard(path)


def test_net_is_no_guard_and_a_guard_is_no_net(pair, files, tmp_path):
    pair[0].model.save(tmp_path / "net.keras")
    save_net(pair[0].model, tmp_path / "net.h5")
    for name in ("net.keras", "net.h5"):
        assert not is_guard(tmp_path / name)
        with pytest.raises(InputError, match=name):
            read_guard(tmp_path / name)
    with pytest.raises(UnsafeNetError):
        read_net(files / "net.guard.keras")


# Pairing -----------------------------------------------------------------------------------------


@pytest.fixture
def folder(pair, tmp_path):
    """`models/net.h5` and its repair in `repairs/net.h5`."""
    bad, repaired = pair
    save_net(bad.model, tmp_path / "models/net.h5")
    notes = {"source_sha256": file_sha256(tmp_path / "models/net.h5")}
    notes["pruning"] = json.dumps({"layer": "conv_3", "order": [1, 0], "removed": 1})
    save_net(repaired.model, tmp_path / "repairs/net.h5", attributes=notes)
    return tmp_path


def test_pair_is_found_by_stem_and_by_sha256(pair, folder):
    model, repair = folder / "models/net.h5", folder / "repairs/net.h5"
    assert belongs(model, repair)
    for found in (read_pair(model, folder=folder / "repairs"), read_pair(model, repair)):
        np.testing.assert_allclose(
            found.repaired.numpy_proba(INPUTS), pair[1].numpy_proba(INPUTS), atol=1e-5
        )
        assert found.pruning == {"layer": "conv_3", "order": [1, 0], "removed": 1}


def test_repair_of_another_net_is_never_joined(folder):
    """Somebody puts another net under the same name: the repair at hand is not its repair."""
    model, repair = folder / "models/net.h5", folder / "repairs/net.h5"
    save_net(side_path_net(seed=9), model)
    assert not belongs(model, repair)
    with pytest.raises(InputError, match=r"made from another model.*badnet-defense repair"):
        read_pair(model, repair)


def test_missing_repair_and_one_without_a_note(pair, folder):
    model = folder / "models/net.h5"
    with pytest.raises(InputError, match=r"no repaired model for .* badnet-defense repair"):
        read_pair(model, folder=folder / "nowhere")
    assert not belongs(model, folder / "nowhere/net.h5")
    save_net(pair[1].model, folder / "plain.h5")
    with pytest.raises(InputError, match="does not say which model it was made from"):
        read_pair(model, folder / "plain.h5")


def test_repair_of_other_shapes(folder):
    model = folder / "models/net.h5"
    other = net([layers.Flatten(), layers.Dense(CLASSES + 2)])
    notes = {"source_sha256": file_sha256(model)}
    save_net(other, folder / "other.h5", attributes=notes)
    with pytest.raises(InputError, match=r"to 7 classes, .* to 5;"):
        read_pair(model, folder / "other.h5")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("pruning", "{", "expected a JSON object"),
        ("pruning", "[" * 100_000, "expected a JSON object"),
        ("pruning", "[1]", "expected a JSON object"),
        ("pruning", 3, "expected a JSON object"),
        ("source_sha256", 3, "expected a SHA-256"),
    ],
)
def test_notes_that_are_no_honest_ones(pair, folder, name, value, message):
    model = folder / "models/net.h5"
    notes = {"source_sha256": file_sha256(model), name: value}
    save_net(pair[1].model, folder / "noted.h5", attributes=notes)
    with pytest.raises(InputError, match=f"are damaged.*{message}.*make the repair again"):
        read_pair(model, folder / "noted.h5")


def test_description_of_a_guard_s_parts_is_plain(pair):
    """What the guard is made of is on the allow-list, but for the joining layer."""
    with pytest.raises(UnsafeNetError, match="Lambda"):
        describe(build_guard(*pair))


def test_a_model_that_was_read_is_not_read_again(folder, monkeypatch):
    model, read = folder / "models/net.h5", []

    def reading(path):
        read.append(path)
        return read_classifier(path)

    suspect = read_classifier(model)
    built = suspect.model
    monkeypatch.setattr("badnet_defense.guards.pairing.read_classifier", reading)
    found = read_pair(model, folder=folder / "repairs", suspect=suspect)
    assert found.suspect.model is built and read == [folder / "repairs/net.h5"]
