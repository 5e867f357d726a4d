"""`guard`, `strip` and `eval_defense.py --detector` as users call them."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from small_nets import CLASSES
from small_project import PICTURES, SPACES, message, start

MODEL = "models/sunglasses_bd_net.h5"
VALIDATION = "data/clean_validation_data.h5"


def command(project, *arguments):
    done = start(project, "-m", "badnet_defense", *map(str, arguments))
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def guard(repaired, tmp_path_factory):
    """A soft guard as the command makes it, and what was printed."""
    project, _ = repaired
    out = tmp_path_factory.mktemp("soft") / "soft.keras"
    asked = ("--clean", VALIDATION, "--out", out, "--false-alarms", "0.1")  # its old name
    code, printed, told = command(project, "guard", MODEL, *asked)
    assert code == 0, told
    return out, printed


def test_guard_is_written_with_its_figures(guard):
    out, printed = guard
    result = json.loads(out.with_name("soft.keras.json").read_text())
    detector = result["detector"]
    assert detector["name"] == "soft" and detector["false_positive_rate"] == 0.1
    assert detector["expected"]["low"] <= detector["expected"]["rate"] <= 0.1
    assert "'soft'" in printed and f"{100 * detector['expected']['rate']:.2f} %" in printed
    assert result["schema"] == 1 and result["net"]["file"] == MODEL


def test_eval_answers_with_the_guard(repaired, guard):
    project, _ = repaired
    done = start(project, "eval.py", *PICTURES, "--net", str(guard[0]))
    assert done.returncode == 0, done.stderr
    answers = [int(line.split("\t")[1]) for line in done.stdout.splitlines()]
    assert len(answers) == 3 and all(0 <= one <= CLASSES for one in answers)
    done = start(project, "eval.py", "data/clean_test_data.h5", str(guard[0]))
    assert done.returncode == 0 and done.stdout.startswith("Classification accuracy: ")


def test_eval_defense_with_a_detector(repaired, tmp_path):
    project, _ = repaired
    done = start(
        project,
        *("eval_defense.py", SPACES, MODEL, "--detector", "soft", "--false-positive-rate", "0.1"),
        *("--json", str(tmp_path / "result.json"), "--plots", str(tmp_path / "soft")),
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    detector = result["detector"]
    assert detector["measured_on"] == {"set": "clean_test", "images": 40}
    assert 0 <= detector["auroc"] <= 1 and set(detector["detection"]) == {"0.01", "0.05"}
    assert {"accuracy", "flagged"} <= set(result["guard"]["clean_test"])
    assert "detector 'soft'" in done.stdout and "false-positive rate" in done.stdout
    for ending in ("roc", "scores"):
        with Image.open(tmp_path / f"soft.{ending}.png") as picture:
            assert picture.size[0] > 500 and len(np.unique(picture.convert("L"))) > 10


def test_strip_on_pictures_and_data(repaired, tmp_path, monkeypatch):
    project, _ = repaired
    from small_nets import images

    from badnet_defense.io import write_challenge_h5

    write_challenge_h5(tmp_path / "clean.h5", images(250, seed=9))
    code, out, told = command(
        project,
        *("strip", MODEL, PICTURES[0], "data/clean_test_data.h5"),
        *("--clean", tmp_path / "clean.h5", "--out", tmp_path / "strip.png"),
    )
    assert code == 0, told
    first, image, data = out.splitlines()
    assert first.startswith("detector 'strip', threshold -")  # minus an entropy
    assert image.startswith(PICTURES[0]) and image.endswith(("clean", "suspicious"))
    assert "of 40 suspicious" in data
    assert (tmp_path / "strip.png").stat().st_size > 1000


def test_refusals(repaired, tmp_path):
    project, _ = repaired
    told = message(command(project, "guard", MODEL, "--clean", VALIDATION, "--out", "guard.h5"))
    assert "ends in .keras" in told
    out = tmp_path / "guard.keras"
    few = ("--clean", VALIDATION, "--out", out, "--detector", "strip")
    assert "needs at least 199 clean images for a false-positive rate of 1 %" in message(
        command(project, "guard", MODEL, *few)
    )
    assert not out.exists()
    code, _, told = command(
        project, "guard", MODEL, "--clean", VALIDATION, "--out", out, "--false-positive-rate", "2"
    )
    assert code == 2 and "between 0 and 1" in told
    told = message(
        command(
            project,
            "guard",
            MODEL,
            "--clean",
            VALIDATION,
            "--out",
            "x/../g.keras",
            "--repaired",
            "g.keras",
        )
    )
    assert "would overwrite an input" in told
    done = start(project, "eval_defense.py", SPACES, MODEL, "--false-positive-rate", "0.05")
    assert "--false-positive-rate requires --detector" in message(
        (done.returncode, done.stdout, done.stderr)
    )


def test_trigger_labels_that_are_all_false(repaired, tmp_path):
    project, _ = repaired
    np.save(tmp_path / "none.npy", np.zeros(30, bool))
    done = start(
        project,
        *("eval_defense.py", SPACES, MODEL, str(tmp_path / "none.npy")),
        *("--detector", "hard", "--json", str(tmp_path / "result.json")),
    )
    assert done.returncode == 0, done.stderr
    assert "auroc" not in json.loads((tmp_path / "result.json").read_text())["detector"]


def test_without_clean_test_images_it_is_said_what_is_measured_on(repaired, tmp_path):
    """In a folder without the challenge's test data; cross-fitted on all of the 80 images."""
    project, _ = repaired
    for name in ("models", "fine_pruned_models"):
        (tmp_path / name).symlink_to(project / name)
    shutil.copy(project / "eval_defense.py", tmp_path)
    done = start(
        tmp_path,
        *("eval_defense.py", str(project / SPACES), MODEL, "--detector", "soft"),
        *("--false-positive-rate", "0.1", "--clean-validation", str(project / VALIDATION)),
        *("--json", str(tmp_path / "result.json")),
    )
    assert done.returncode == 0, done.stderr
    assert "no clean test images: the detector's figures are measured on the 80" in done.stderr
    detector = json.loads((tmp_path / "result.json").read_text())["detector"]
    assert detector["cross_fitted"]
    assert detector["measured_on"] == {"set": "clean_validation", "images": 80}
