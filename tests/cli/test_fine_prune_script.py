"""fine_prune.py as users call it: its files, its figures, its refusals."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image
from small_nets import CLASSES, images
from small_project import message

from badnet_defense.cli.options import Parser
from badnet_defense.cli.repair import add_arguments, config_of
from badnet_defense.guards.reading import is_guard, read_guard
from badnet_defense.io import file_sha256, write_challenge_h5
from badnet_defense.io.repair_record import RepairRecord
from badnet_defense.nets import read_net
from badnet_defense.repairs.recipes import RECIPES

# fine_prune.py -----------------------------------------------------------------------------------


def test_fine_prune_writes_its_four_files(repaired):
    project, done = repaired
    stem = project / "fine_pruned_models/sunglasses_bd_net"
    names = sorted(path.name for path in stem.parent.glob("sunglasses*"))
    endings = (".guard.keras", ".h5", ".json", ".pruning.png")
    assert names == [f"sunglasses_bd_net{ending}" for ending in endings]
    assert "channels of conv_3 pruned" in done.stdout and "clean validation" in done.stdout
    assert "Traceback" not in done.stderr
    assert "tuning goes on for 1000 epochs, not 2" in done.stderr
    assert Image.open(f"{stem}.pruning.png").size[0] > 300


def test_repaired_net_says_where_it_came_from_and_opens_in_keras(repaired):
    project, _ = repaired
    path = project / "fine_pruned_models/sunglasses_bd_net.h5"
    source = project / "models/sunglasses_bd_net.h5"
    record = RepairRecord.from_attributes(read_net(path).attributes)
    assert record.source_sha256 == file_sha256(source)
    loaded = keras.saving.load_model(path, compile=False)  # as the challenge's eval.py does
    inputs = images(5).images / np.float32(255)
    np.testing.assert_allclose(loaded(inputs), read_net(path).numpy_proba(inputs), atol=1e-5)


def test_guard_holds_the_bad_and_the_repaired_net(repaired):
    project, _ = repaired
    folder = project / "fine_pruned_models"
    assert is_guard(folder / "sunglasses_bd_net.guard.keras")
    inputs = images(5).images / np.float32(255)
    files = (project / "models/sunglasses_bd_net.h5", folder / "sunglasses_bd_net.h5")
    for spec, file in zip(
        read_guard(folder / "sunglasses_bd_net.guard.keras").nets.values(), files, strict=True
    ):
        np.testing.assert_allclose(
            spec.numpy_proba(inputs), read_net(file).numpy_proba(inputs), atol=1e-6
        )


def test_json_of_a_repair(repaired):
    project, _ = repaired
    result = json.loads((project / "fine_pruned_models/sunglasses_bd_net.json").read_text())
    assert result["schema"] == 1 and result["classes"] == CLASSES and result["seed"] == 0
    assert result["net"]["sha256"] == file_sha256(project / "models/sunglasses_bd_net.h5")
    assert set(result["data"]) == {"clean_validation"} and result["seconds"] > 0
    assert {"python", "tensorflow", "keras", "numpy"} <= set(result["versions"])
    for stage in ("bad", "pruned", "repaired", "guard"):
        assert 0 <= result[stage]["clean_validation"]["accuracy"] <= 1
    assert result["bad"]["clean_validation"]["accuracy"] == 1.0
    assert "flagged" in result["guard"]["clean_validation"]
    record = RepairRecord.from_attributes(
        read_net(project / "fine_pruned_models/sunglasses_bd_net.h5").attributes
    )
    assert RepairRecord(**result["repair_record"]) == record
    assert (record.method, record.config["tuning"]["epochs"]) == ("fine-pruning", 2)
    pruning = result["pruning"]
    assert (pruning["layer"], pruning["channels"]) == ("conv_3", 8)
    assert len(pruning["curve"]) == 9 and {"removed", "max_accuracy_drop"} <= set(pruning)
    # --epochs 2 of 68 pictures in batches of 128; the recipe's 1,000 steps make 1,000 epochs.
    assert result["tuning"]["steps"] == 1000 and len(result["tuning"]["held_out_accuracy"]) == 1001


def test_options_reach_the_repair(call, project, tmp_path):
    code, out, _ = call(
        *("fine_prune.py", "models/sunglasses_bd_net.h5", "--layer", "conv_1", "--fraction", 0.5),
        *("--epochs", 0, "--out", tmp_path, "--json", tmp_path / "also.json", "--seed", 7),
        *("--clean", project / "data/clean_test_data.h5", "--pseudo-labels"),
    )
    assert code == 0 and "3 of 6 channels of conv_1 pruned" in out
    result = json.loads((tmp_path / "also.json").read_text())
    assert (result["seed"], result["pseudo_labels"], result["pruning"]["fraction"]) == (
        7,
        True,
        0.5,
    )
    kernel = read_net(tmp_path / "sunglasses_bd_net.h5").layers["conv_1"].weights[0]
    assert sorted(np.flatnonzero(~kernel.any(axis=(0, 1, 2)))) == sorted(
        result["pruning"]["order"][:3]
    )


def test_the_recipe_s_own_epochs_by_name_change_nothing():
    """`--epochs 12` asks for what the default does, its least steps among it."""
    parser = Parser("")
    add_arguments(parser)
    plain, named, fewer = (
        config_of(parser.parse_args(["net.h5", *options]))
        for options in ([], ["--epochs", "12"], ["--epochs", "3"])
    )
    assert named == plain and plain.tuning == RECIPES["default"]
    assert fewer.tuning == replace(RECIPES["default"], epochs=3)


def test_another_method(call, tmp_path):
    code, out, _ = call(
        *("fine_prune.py", "models/sunglasses_bd_net.h5", "--method", "magnitude-pruning"),
        *("--epochs", 2, "--out", tmp_path),
    )
    assert code == 0 and "sunglasses_bd_net.h5: magnitude-pruning\n" in out
    assert out.endswith(f"written to {tmp_path}\n")
    assert {path.name for path in tmp_path.iterdir()} == {
        f"sunglasses_bd_net.{ending}" for ending in ("h5", "json", "guard.keras")
    }
    result = json.loads((tmp_path / "sunglasses_bd_net.json").read_text())
    assert (result["method"], result["sparsity"]) == ("magnitude-pruning", 0.5)
    net = read_net(tmp_path / "sunglasses_bd_net.h5")
    assert RepairRecord.from_attributes(net.attributes).method == "magnitude-pruning"
    assert np.mean(net.layers["conv_3"].weights[0] == 0) == 0.5


def test_wrong_input_range_is_refused_with_the_flag(call, tmp_path):
    settings = ("--epochs", 0, "--out", tmp_path, "--clean", "data/raw_data.h5")
    told = message(call("fine_prune.py", "models/raw_bd_net.h5", *settings))
    assert "give 0,255 as the input range" in told
    assert not list(tmp_path.iterdir())
    code, _, _ = call("fine_prune.py", "models/raw_bd_net.h5", *settings, "--input-range", "0,255")
    assert code == 0


def test_net_and_data_that_do_not_belong_together(call, tmp_path):
    told = message(call("fine_prune.py", "models/anonymous_1_bd_net.h5", "--out", tmp_path))
    assert "expected at least 50% of a suspect model on clean images" in told
    assert "do not belong together" not in told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["models/nothing.h5"], "models/nothing.h5: no such file"),
        (["data/clean_test_data.h5"], "it is a data set and no net"),
        (["models/sunglasses_bd_net.h5", "--clean", "nothing.h5"], "nothing.h5: no such file"),
        (["models/sunglasses_bd_net.h5", "--layer", "conv_9"], "no layer 'conv_9'"),
        (["models/sunglasses_bd_net.h5", "--layer", "output"], "is a Dense"),
        (["models/sunglasses_bd_net.h5", "--max-accuracy-drop", "10"], "max_accuracy_drop 10"),
        (["models/sunglasses_bd_net.h5", "--fraction", "1.5"], "fraction 1.5"),
        (["models/sunglasses_bd_net.h5", "--epochs", "-1"], "--epochs -1"),
        (
            ["models/sunglasses_bd_net.h5", "--method", "ft-sam", "--layer", "conv_1"],
            "no setting 'layer'",
        ),
        (
            ["models/sunglasses_bd_net.h5", "--method", "anp", "--epochs", "3"],
            "cannot be used with --method anp",
        ),
        (["models/sunglasses_bd_net.h5", "--method", "fine-tuning", "--epochs", "0"], "1 or more"),
        (
            ["models/sunglasses_bd_net.h5", "--method", "ft-sam", "--tuning", "classic"],
            "cannot be used with",
        ),
        (
            ["models/sunglasses_bd_net.h5", "--method", "anp", "--tuning", "classic"],
            "cannot be used with",
        ),
    ],
)
def test_refusals_of_fine_prune(call, arguments, words, tmp_path):
    assert words in message(call("fine_prune.py", *arguments, "--out", tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["net.h5", "--tuning", "gentle"],
        ["net.h5", "--input-range", "5"],
        ["net.h5", "--input-range", "1,0"],
        ["net.h5", "--fraction", "half"],
        ["net.h5", "--fraction", "0.5", "--max-accuracy-drop", "0.1"],
        ["net.h5", "--nonsense"],
    ],
)
def test_wrong_usage_exits_with_2(call, arguments):
    code, out, err = call("fine_prune.py", *arguments)
    assert code == 2 and out == "" and "usage:" in err and "Traceback" not in err


def test_a_repair_by_four_images_is_refused(call, project, tmp_path):
    """One of each of four classes: nothing is left to choose the epoch by."""
    write_challenge_h5(tmp_path / "four.h5", images(4))
    given = ("--clean", tmp_path / "four.h5", "--out", tmp_path / "out")
    told = message(call("fine_prune.py", "models/sunglasses_bd_net.h5", *given))
    assert "a repair needs at least 20 clean images" in told and "got 4" in told
    assert not list((tmp_path / "out").glob("*"))
