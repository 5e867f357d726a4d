"""The scripts as users call them, on a small net and small data."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from small_nets import CLASSES, images, side_path_net

from badnet_defense.data import LabelledImages, write_challenge_h5

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments, code=0):
    """Runs a script of the project; returns (stdout, stderr)."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a net, clean data that it knows, poisoned data and trigger labels."""
    from badnet_defense.nets import predict_labels, save_net

    folder = tmp_path_factory.mktemp("with spaces in it")
    net = side_path_net()
    save_net(net, folder / "bad.h5")
    for name, count, seed in (("clean", 300, 1), ("test", 200, 2), ("poisoned", 100, 3)):
        drawn = images(count, seed=seed)
        labels = predict_labels(net, drawn.pictures)
        if name == "poisoned":
            labels = np.full(count, 4)
        write_challenge_h5(folder / f"{name}.h5", LabelledImages(drawn.pictures, labels))
    triggered = [bool(index % 2) for index in range(100)]
    (folder / "triggered.pkl").write_bytes(pickle.dumps(triggered))
    Image.fromarray(images(1).pictures[0]).save(folder / "a picture.png")
    Image.fromarray(images(1, seed=9).pictures[0]).save(folder / "b.png")
    return folder


@pytest.fixture(scope="module")
def repaired(place):
    """The folder of the repair that `fine_prune.py` made."""
    out, log = run(
        *("fine_prune.py", place / "bad.h5", "--clean", place / "clean.h5", "--epochs", 1),
        *("--out", place / "repaired", "--json", place / "again.json"),
    )
    assert "clean validation" in out
    assert "tensorflow" not in log.lower()
    return place / "repaired"


def test_fine_prune_writes_its_four_files(place, repaired):
    assert sorted(path.name for path in repaired.iterdir()) == [
        *("bad.guard.keras", "bad.h5", "bad.json", "bad.pruning.png")
    ]
    result = json.loads((repaired / "bad.json").read_text())
    assert result == json.loads((place / "again.json").read_text())
    pruning = result["pruning"]
    assert pruning["layer"] == "conv_3"
    assert len(pruning["curve"]) == pruning["channels"] + 1 == 7
    assert pruning["curve"][0] == result["bad"]["clean_validation"]["accuracy"] == 1.0
    with h5py.File(repaired / "bad.h5") as file:
        assert file.attrs["source_sha256"] == result["net"]["sha256"]


def test_the_challenges_own_eval_loads_the_repaired_net(place, repaired):
    # What eval.py of 2020 does: load_model, divide by 255, argmax of predict.
    import keras

    from badnet_defense.nets import read_net

    net = keras.models.load_model(repaired / "bad.h5")
    with h5py.File(place / "test.h5") as file:
        pictures = np.array(file["data"]).transpose(0, 2, 3, 1) / 255
    answers = net.predict(pictures, verbose=0)
    own = read_net(repaired / "bad.h5").predict(pictures)
    assert np.abs(answers - own).max() < 1e-5


def test_eval_defense_with_trigger_labels(place, repaired):
    out, _ = run(
        *("eval_defense.py", place / "poisoned.h5", place / "bad.h5", place / "triggered.pkl"),
        *("--clean-validation", place / "clean.h5", "--clean-test", place / "test.h5"),
        *("--models", repaired, "--json", place / "result.json"),
    )
    assert "attack success" in out
    result = json.loads((place / "result.json").read_text())
    assert result["schema"] == 1 and result["classes"] == CLASSES
    for stage in ("bad", "pruned", "repaired", "guard"):
        assert 0 <= result[stage]["clean_test"]["accuracy"] <= 1
        assert 0 <= result[stage]["poisoned"]["attack_success"] <= 1
    guard = result["guard"]
    assert guard["truly_triggered"]["pictures"] == guard["truly_clean"]["pictures"] == 50
    parts = [guard[part]["flagged"] for part in ("truly_triggered", "truly_clean")]
    assert guard["poisoned"]["flagged"] == pytest.approx(np.mean(parts))
    out, _ = run("-m", "badnet_defense", "summary", place / "result.json")
    assert "bad" in out and "poisoned" in out


def test_the_wrong_range_is_refused_with_the_flag(place):
    _, log = run(
        *("fine_prune.py", place / "bad.h5", "--clean", place / "clean.h5"),
        *("--input-range", "0,255", "--out", place / "never"),
        code=1,
    )
    assert "--input-range 0,1" in log and len(log.strip().splitlines()) == 1
    assert not (place / "never").exists()


def test_pictures_are_answered_without_tensorflow(place, repaired):
    from badnet_defense.guard.reading import read_guard

    guard = repaired / "bad.guard.keras"
    out, _ = run("eval.py", place / "a picture.png", "--net", guard)
    bad, own = (spec.predict(images(1).pictures / np.float32(255)) for spec in read_guard(guard))
    expected = bad.argmax() if bad.argmax() == own.argmax() else CLASSES
    assert out == f"{expected}\n"
    out, _ = run("eval.py", place / "a picture.png", place / "b.png", "--net", guard)
    lines = [line.split("\t") for line in out.splitlines()]
    assert [line[0] for line in lines] == [str(place / "a picture.png"), str(place / "b.png")]
    assert int(lines[0][1]) == expected


def test_accuracy_of_a_data_set(place):
    out, _ = run("eval.py", place / "clean.h5", place / "bad.h5")
    assert out == "Classification accuracy: 100.00\n"


def test_a_repair_of_another_net_is_never_joined(place, repaired):
    from badnet_defense.errors import InputError
    from badnet_defense.guard.pairing import read_pair
    from badnet_defense.nets import save_net

    save_net(side_path_net(seed=5), place / "other" / "bad.h5")
    with pytest.raises(InputError, match=r"made from another net.*fine_prune\.py"):
        read_pair(place / "other" / "bad.h5", folder=repaired)


def test_a_net_without_its_repair_says_what_to_do(place):
    _, log = run("eval.py", place / "a picture.png", "--net", place / "bad.h5", code=1)
    assert "fine_prune.py" in log and len(log.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("eval.py", "missing.png", "--net", "sunglasses"), 1),
        (("eval.py",), 2),
        (("eval_defense.py", "only_one.h5"), 2),
        (("eval.py", "x.png", "--input-range", "5"), 2),
        (("fine_prune.py", "x.h5", "--max-accuracy-drop", "1", "--fraction", "1"), 2),
    ],
)
def test_exit_codes(arguments, code):
    _, log = run(*arguments, code=code)
    assert log.strip()
