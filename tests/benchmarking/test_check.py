"""A check of one model: its verdict, what is held out, what is kept, its page and exit codes."""

import json
import re
import sys
from copy import deepcopy

import numpy as np
import pytest
from planted_net import (
    CLASSES,
    TARGET,
    clean_images,
    planted_net,
    planted_trigger,
    short_rungs,
)
from small_grid import QUICK, replace_repair
from small_nets import images

from badnet_defense.benchmarking import audit as auditing
from badnet_defense.benchmarking import check as checking
from badnet_defense.benchmarking.audit import AuditConfig
from badnet_defense.benchmarking.check import CheckInputs, check
from badnet_defense.cli import main
from badnet_defense.errors import InputError
from badnet_defense.evaluation.stamping import stamp
from badnet_defense.io import Dataset, read_images, write_challenge_h5
from badnet_defense.io.files import file_sha256
from badnet_defense.nets import read_net, save_net
from badnet_defense.report.check import check_limits, check_sentences

CONFIG = AuditConfig(repair="fine-tuning", guard="hard")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A planted and a clean model, clean images that both know, and poisoned ones."""
    folder = tmp_path_factory.mktemp("check")
    save_net(planted_net(), folder / "planted.h5")
    save_net(planted_net(target=None), folder / "honest.h5")
    write_challenge_h5(folder / "clean.h5", clean_images(400))
    others = clean_images(60, seed=5)
    others = others.subset(np.flatnonzero(others.labels != TARGET))
    stamped = stamp(others.images, *planted_trigger())
    targets = np.full(len(stamped), TARGET)
    write_challenge_h5(folder / "poisoned.h5", Dataset(np.rint(stamped * 1.0), targets))
    return folder


def given(folder, out, model="planted.h5", clean="clean.h5", poisoned=None):
    poisoned = None if poisoned is None else folder / poisoned
    return CheckInputs(folder / model, folder / clean, poisoned, None, out)


@pytest.fixture(scope="module")
def checked(files, tmp_path_factory):
    """The check of the planted model with everything."""
    out = tmp_path_factory.mktemp("out") / "planted"
    with pytest.MonkeyPatch.context() as patch:
        short_rungs(patch)
        replace_repair(patch, "fine-tuning", QUICK)
        return check(given(files, out, poisoned="poisoned.h5"), config=CONFIG), out


def test_the_verdict_and_the_figures_of_the_defence(checked):
    result, out = checked
    assert (result["verdict"], result["shown_by"]) == ("backdoored", "scan")
    assert result["scan"]["targets"] == [TARGET]
    stages = result["evaluation"]
    assert stages["bad"]["poisoned"]["attack_success"] > 0.9
    assert {"bad", "repaired", "guard"} <= set(stages) and "clean_test" in stages["guard"]
    verdict, repair, *_, guard = check_sentences(result)
    assert verdict.startswith(f"planted.h5 is backdoored: label {TARGET} is a target (index ")
    assert repair.startswith("Repaired by fine-tuning, it answers ")
    assert guard.startswith("Its guard flags ")
    assert json.loads((out / "check.json").read_text())["verdict"] == "backdoored"
    assert read_net(out / "repaired/planted.h5/planted.h5").classes == CLASSES


def test_what_is_held_out_is_seen_by_neither_repair_nor_threshold(checked, files):
    """A quarter of each class; both parts together are the clean images, each once."""
    result, out = checked
    whole = read_images(files / "clean.h5", shape=(12, 12, 3))
    tuned, held_out = (
        read_images(out / f"data/clean_{part}.h5", shape=(12, 12, 3))
        for part in ("validation", "test")
    )
    assert (len(tuned), len(held_out)) == (
        result["parts"]["repair"],
        result["parts"]["held_out"],
    )
    rows = [one.images.reshape(len(one), -1) for one in (tuned, held_out, whole)]
    both = np.concatenate(rows[:2])
    assert np.array_equal(both[np.lexsort(both.T)], rows[2][np.lexsort(rows[2].T)])
    for label, count in zip(*np.unique(whole.labels, return_counts=True), strict=True):
        assert np.sum(held_out.labels == label) == (max(1, round(count / 4)) if count > 1 else 0)
    record = json.loads((out / "repaired/planted.h5/planted.json").read_text())
    assert record["data"]["clean_validation"]["sha256"] == file_sha256(
        out / "data/clean_validation.h5"
    )
    assert any("were held out" in limit for limit in check_limits(result))


def test_a_finished_check_is_not_made_again(checked, files, monkeypatch):
    result, out = checked
    short_rungs(monkeypatch)
    for module, name in ((auditing, "scan_recorded"), (checking, "repair_and_guard"),
                         (checking, "evaluate_files")):  # fmt: skip
        monkeypatch.setattr(module, name, None)
    again = check(given(files, out, poisoned="poisoned.h5"), config=CONFIG)
    assert {**again, "seconds": 0} == {**result, "seconds": 0}


def test_a_repaired_model_that_was_changed_is_made_again(checked, files, monkeypatch, quick):
    _, out = checked
    made: list[int] = []
    short_rungs(monkeypatch)
    real = checking.repair_and_guard
    monkeypatch.setattr(checking, "repair_and_guard", lambda *a: made.append(1) or real(*a))
    path = out / "repaired/planted.h5/planted.h5"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")
    check(given(files, out, poisoned="poisoned.h5"), config=CONFIG)
    assert made == [1]


def test_a_clean_model_is_not_repaired(files, tmp_path, short_scans):
    result = check(given(files, tmp_path / "out", model="honest.h5"), config=CONFIG)
    assert result["verdict"] == "clean" and "repair" not in result
    assert "shows no backdoor" in check_sentences(result)[0]
    assert not (tmp_path / "out/data").exists()


def test_few_images_are_not_split(files, tmp_path, short_scans, quick):
    write_challenge_h5(tmp_path / "few.h5", clean_images(120))
    inputs = CheckInputs(files / "planted.h5", tmp_path / "few.h5", None, None, tmp_path / "out")
    result = check(inputs, config=CONFIG)
    assert result["parts"]["held_out"] == 0 and result["parts"]["repair"] == 120
    assert "clean_test" not in result["evaluation"]["bad"]
    assert any("too few to hold some out" in limit for limit in check_limits(result))


def test_labels_of_other_classes_are_not_used(files, tmp_path, short_scans, quick):
    other = clean_images(400)
    labels = np.random.default_rng(0).integers(0, CLASSES, 400)
    write_challenge_h5(tmp_path / "other.h5", Dataset(other.images, labels))
    inputs = CheckInputs(files / "planted.h5", tmp_path / "other.h5", None, None, tmp_path / "out")
    result = check(inputs, config=CONFIG)
    assert result["verdict"] == "backdoored" and not result["parts"]["labelled"]
    assert "accuracy" not in result["evaluation"]["repaired"]["clean_test"]
    assert check_sentences(result)[1].startswith("Its guard flags ")


def test_a_repair_that_leaves_the_backdoor_is_said(checked):
    result = deepcopy(checked[0])
    for success, said in ((0.21, True), (0.19, False)):
        result["evaluation"]["repaired"]["poisoned"]["attack_success"] = success
        told = any("backdoor is still there" in one for one in check_sentences(result))
        assert told == said


def test_poisoned_images_show_what_the_scan_does_not():
    attacked = {"attack_success": 0.98, "attack_success_interval": [0.93, 0.99]}
    scan = {"name": "net.h5", "largest_index": 1.2, "limit": 3.4, "targets": []}
    result = {"verdict": "clean", "reason": None, "scan": scan}
    result["evaluation"] = {"bad": {"poisoned": attacked}}
    assert checking._verdict(result)["verdict"] == "backdoored"
    found = {**result, **checking._verdict(result), "failed": "too few images."}
    assert check_sentences(found) == [
        "net.h5 is backdoored: 98.0 % of the poisoned images get the attacker's class, though the "
        "scan finds no target (index 1.20, limit 3.40).",
        "It could not be repaired: too few images.",
    ]
    attacked["attack_success_interval"] = [0.5, 0.99]
    assert checking._verdict(result) == {"shown_by": None}


@pytest.mark.parametrize(("name", "code"), [("planted", 1), ("honest", 0)])
def test_the_command(files, tmp_path, short_scans, quick, monkeypatch, capsys, name, code):
    monkeypatch.setattr(sys, "argv", ["badnet-defense", "check"])
    asked = [str(files / f"{name}.h5"), "--clean", str(files / "clean.h5")]
    asked += ["--out", str(tmp_path), "--repair", "fine-tuning", "--detector", "hard"]
    assert main.main(["check", *asked, "--workers", "1"]) == code
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{name}.h5 ") and last == f"written: {tmp_path / 'check.html'}"
    page = (tmp_path / "check.html").read_text()
    assert ("is backdoored" in page) == (code == 1)
    assert page.index('class="verdict') < page.index("What this does not say")
    assert "data:image/png;base64" in page and file_sha256(files / f"{name}.h5") in page
    steps = re.findall(r"<pre>badnet-defense (\w+)", page)
    assert steps == (["scan", "repair", "guard", "evaluate"] if code else ["scan"])


def test_refusals(files, tmp_path):
    write_challenge_h5(tmp_path / "wide.h5", images(20))
    with pytest.raises(InputError, match=r"wide\.h5"):
        check(given(files, tmp_path / "out", poisoned=tmp_path / "wide.h5"), config=CONFIG)
    with pytest.raises(InputError, match="no such file"):
        check(given(files, tmp_path / "out", model="nothing.h5"), config=CONFIG)
    with pytest.raises(InputError, match="--trigger-labels requires --poisoned"):
        main.main(["check", "n.h5", "--clean", "c.h5", "--trigger-labels", "t.npy"])
