"""eval.py and the contest's scripts as users call them: one class, several, an accuracy."""

import re
import shutil

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image
from small_nets import CLASSES
from small_project import PICTURES, message, start

from badnet_defense.nets import read_net, save_net

# eval.py -----------------------------------------------------------------------------------------


def expected_classes(project, paths):
    bad, repaired = (
        read_net(project / folder / "sunglasses_bd_net.h5")
        for folder in ("models", "fine_pruned_models")
    )
    inputs = np.stack([np.asarray(Image.open(project / path)) for path in paths]) / np.float32(255)
    first, second = (one.numpy_proba(inputs).argmax(axis=1) for one in (bad, repaired))
    return np.where(first == second, first, CLASSES).tolist()


def test_one_picture_gives_the_class_alone(call, repaired):
    code, out, err = call("eval.py", PICTURES[0])
    assert (code, err) == (0, "")
    assert out == f"{expected_classes(repaired[0], PICTURES[:1])[0]}\n"


def test_several_pictures_give_path_tab_class(call, repaired):
    code, out, _ = call("eval.py", *PICTURES, "--net", "sunglasses")
    wanted = zip(PICTURES, expected_classes(repaired[0], PICTURES), strict=True)
    assert code == 0 and out == "".join(f"{path}\t{one}\n" for path, one in wanted)


@pytest.mark.parametrize("net", ["models/sunglasses_bd_net.h5", "GUARD"])
def test_net_may_be_a_path_or_a_guard(call, repaired, net):
    net = net.replace("GUARD", "fine_pruned_models/sunglasses_bd_net.guard.keras")
    code, out, _ = call("eval.py", *PICTURES, "--net", net)
    found = [int(line.split("\t")[1]) for line in out.splitlines()]
    assert code == 0 and found == expected_classes(repaired[0], PICTURES)


def test_contest_s_script_answers_without_tensorflow(repaired):
    """As a process of its own, from another folder; and it must not pay for TensorFlow."""
    project, _ = repaired
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "print('tensorflow' in sys.modules, file=sys.stderr)\n"
    )
    script, picture = project / "submission/eval_sunglasses.py", project / PICTURES[0]
    done = start(project / "data", "-c", code, script, picture)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{expected_classes(project, PICTURES[:1])[0]}\n"
    assert done.stderr.strip() == "False"


def test_eval_prints_accuracy_of_a_net_and_of_a_guard(call, repaired):
    code, out, _ = call("eval.py", "data/clean_test_data.h5", "models/sunglasses_bd_net.h5")
    assert (code, out) == (0, "Classification accuracy: 100.00\n")
    guard = "fine_pruned_models/sunglasses_bd_net.guard.keras"
    code, out, _ = call("eval.py", "data/clean_test_data.h5", guard)
    assert code == 0 and re.fullmatch(r"Classification accuracy: \d+\.\d\d\n", out)


def test_a_note_in_the_suspect_s_file_switches_no_guard_off(call, repaired, tmp_path, caplog):
    """A file is never believed about what it is: this one says that it was repaired."""
    project, _ = repaired
    path = tmp_path / "suspect.h5"
    shutil.copy(project / "models/sunglasses_bd_net.h5", path)
    with h5py.File(path, "r+") as file:
        file.attrs["source_sha256"] = "0" * 64
    told = message(call("eval.py", PICTURES[0], "--net", path))
    assert "no repaired model for" in told and "--alone" in told
    code, out, _ = call("eval.py", *PICTURES, "--net", path, "--alone")
    inputs = np.stack([np.asarray(Image.open(project / one)) for one in PICTURES]) / np.float32(255)
    expected = read_net(path).numpy_proba(inputs).argmax(axis=1).tolist()
    assert code == 0 and [int(line.split("\t")[1]) for line in out.splitlines()] == expected
    assert "suspect.h5 answers alone, without a guard" in caplog.text


def test_a_repaired_net_is_not_asked_without_its_suspect(call, repaired):
    path = "fine_pruned_models/sunglasses_bd_net.h5"
    told = message(call("eval.py", PICTURES[0], "--net", path))
    assert "answers together with the net that it was made from" in told and "--alone" in told
    guard = path.replace(".h5", ".guard.keras")
    for asked in ((PICTURES[0], "--net", guard), ("data/clean_test_data.h5", guard)):
        told = message(call("eval.py", *asked, "--alone"))
        assert "this is a guard; only a model answers alone" in told


@pytest.mark.parametrize("net", ["models/raw_bd_net.h5", "raw/raw_bd_net.guard.keras"])
def test_a_guard_s_range_is_used_where_none_is_named(call, project, net):
    """The net takes 0-255: a guard that was asked in [0, 1] would flag or confuse every image."""
    if not (project / "fine_pruned_models/raw_bd_net.h5").exists():
        asked = ("--clean", "data/raw_data.h5", "--input-range", "0,255", "--epochs", "1")
        assert call("fine_prune.py", "models/raw_bd_net.h5", *asked)[0] == 0
        shutil.copytree(project / "fine_pruned_models", project / "raw")
    inputs = np.stack([np.asarray(Image.open(project / one)) for one in PICTURES])
    first, second = (
        read_net(project / f"{folder}/raw_bd_net.h5")
        .numpy_proba(inputs.astype("f4"))
        .argmax(axis=1)
        for folder in ("models", "fine_pruned_models")
    )
    expected = np.where(first == second, first, CLASSES).tolist()
    for asked in ((), ("--input-range", "0,255")):
        code, out, err = call("eval.py", *PICTURES, "--net", net, *asked)
        assert (code, err) == (0, "")
        assert [int(line.split("\t")[1]) for line in out.splitlines()] == expected
    told = message(call("eval.py", *PICTURES, "--net", net, "--input-range", "0,1"))
    assert "made for pixels in 0,255" in told
    if net.endswith(".keras"):
        code, out, err = call("eval.py", "data/raw_data.h5", net)
        assert code == 0 and float(out.rpartition(" ")[2]) > 50


def test_accuracy_over_a_folder_is_that_over_its_file(call, project, tmp_path):
    from badnet_defense.io import read_images

    model = "models/sunglasses_bd_net.h5"
    images = read_images(project / "data/clean_test_data.h5", shape=(12, 10, 3))
    for number, (pixels, label) in enumerate(zip(images.images, images.labels, strict=True)):
        (tmp_path / str(label)).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"{label}/{number}.png")
    assert call("eval.py", tmp_path, model)[:2] == (0, "Classification accuracy: 100.00\n")


def bright_half_net():
    """A net for 12x10 pixels that answers which half is bright: left, right, upper, lower; or 4."""
    model = keras.Sequential(
        [
            keras.Input((12, 10, 3)),
            layers.AveragePooling2D((6, 5)),
            layers.Flatten(),
            layers.Dense(5, activation="softmax"),
        ]
    )
    # One row for each quarter of the picture: upper left, upper right, lower left, lower right.
    quarters = [[1, -1, 1, -1, 0], [-1, 1, 1, -1, 0], [1, -1, -1, 1, 0], [-1, 1, -1, 1, 0]]
    # A bright half beside a dark one makes 60; where there is no such thing, 50 is more.
    model.set_weights([10 * np.repeat(quarters, 3, axis=0), 50.0 * (np.arange(5) == 4)])
    return model


@pytest.mark.parametrize("size", [(12, 10), (24, 70), (70, 24)])
def test_pictures_of_every_size_keep_their_rows_and_columns(call, tmp_path, size):
    save_net(bright_half_net(), tmp_path / "net.h5")
    height, width = size
    paths = []
    for number in range(4):
        pixels = np.zeros((height, width, 3), np.uint8)
        sides = (np.s_[:, : width // 2], np.s_[:, width // 2 :], np.s_[: height // 2])
        pixels[(*sides, np.s_[height // 2 :])[number]] = 255
        paths.append(tmp_path / f"set/{number}/a.png")
        paths[-1].parent.mkdir(parents=True)
        Image.fromarray(pixels).save(paths[-1])
    code, out, _ = call("eval.py", *paths, "--net", tmp_path / "net.h5", "--alone")
    assert (code, out) == (0, "".join(f"{path}\t{n}\n" for n, path in enumerate(paths)))
    code, out, _ = call("eval.py", tmp_path / "set", tmp_path / "net.h5")
    assert (code, out) == (0, "Classification accuracy: 100.00\n")


def test_net_without_a_repair_is_told_to_run_fine_prune(call, repaired):
    told = message(call("eval.py", PICTURES[0], "--net", "anonymous_1"))
    assert "no repaired model for" in told and "repair" in told
    assert "fine_pruned_models; create it with badnet-defense repair" in told


def test_repair_of_another_net_is_not_joined(call, repaired):
    """Somebody puts the challenge's real nets into `models/`: their repairs are others."""
    project, _ = repaired
    model, kept = project / "models/sunglasses_bd_net.h5", project / "models/kept.h5"
    shutil.move(model, kept)
    try:
        shutil.copy(project / "models/anonymous_1_bd_net.h5", model)
        told = message(call("eval.py", PICTURES[0]))
        assert "made from another model" in told and "badnet-defense repair" in told
    finally:
        shutil.move(kept, model)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.png"], "nothing.png: no such file"),
        (["models/sunglasses_bd_net.h5", "x.h5", "y.h5"], "expected DATA and MODEL"),
        (["data/clean_test_data.h5", "nothing.h5"], "nothing.h5: no such file"),
        ([PICTURES[0], "--net", "nobody"], "nobody"),
        (["data"], "data is a folder, and no model came behind it"),
        (["models/sunglasses_bd_net.h5", "data"], "data is a folder of images and stands last"),
        ([PICTURES[0], "models/sunglasses_bd_net.h5"], "sunglasses_bd_net.h5 is an HDF5 file"),
        (["models/sunglasses_bd_net.h5", PICTURES[0]], "is no model"),
        (["data/raw_data.h5", "--net", "sunglasses"], "without --net"),
        (["models/sunglasses_bd_net.h5", "data/raw_data.h5"], "are data and model swapped?"),
        (
            ["models/sunglasses_bd_net.h5", "models/sunglasses_bd_net.h5"],
            "this is a model's file, expected images",
        ),
    ],
)
def test_refusals_of_eval(call, repaired, arguments, words):
    assert words in message(call("eval.py", *arguments))


def test_eval_without_arguments_is_wrong_usage(call):
    assert call("eval.py")[0] == 2
