"""The scan command as users call it: its files, its figures, its pictures, its repairs."""

import json
import re
import runpy
import shutil

import numpy as np
import pytest
from PIL import Image
from planted_net import CLASSES, SHAPE, TARGET, clean_images, planted_net, short_rungs
from scan_calls import ENDINGS, called, fill, names, scan
from small_project import ROOT

from badnet_defense.errors import CannotJudgeError, InputError
from badnet_defense.evaluation.stamping import stamp
from badnet_defense.guards.pairing import read_pair
from badnet_defense.guards.reading import read_guard
from badnet_defense.io import file_sha256
from badnet_defense.io.records import own_result
from badnet_defense.io.repair_record import RepairRecord
from badnet_defense.nets import build, predict_labels, read_net, save_net
from badnet_defense.nets.input_range import UNIT, InputRange
from badnet_defense.workflows.scanned import SCAN, found_triggers, scan_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("scanned")
    fill(root)
    return root


@pytest.fixture(scope="module")
def unlearnt(folder, tmp_path_factory):
    """(folder of the results, stdout) of a scan with `--repair unlearn`."""
    out = tmp_path_factory.mktemp("unlearnt")
    code, printed, told = scan(
        *(folder / "net.h5", "--clean", folder / "clean.h5", "--repair", "scan-unlearning"),
        *("--out", out / "new/net", "--json", out / "also.json"),
    )
    assert code == 1 and "Traceback" not in told, told
    return out, printed


@pytest.fixture(scope="module")
def result(unlearnt):
    return json.loads((unlearnt[0] / "new/net.json").read_text())


# What is written ---------------------------------------------------------------------------------


def test_files(unlearnt):
    out, _ = unlearnt
    expected = [*ENDINGS, "scan-unlearning.guard.keras", "scan-unlearning.h5"]
    assert names(out / "new") == sorted(f"net.{ending}" for ending in expected)
    own = own_result(out / "new/net.json", SCAN)
    assert own and json.loads((out / "also.json").read_text()) == own


def test_json_says_what_was_found_and_from_what(result, folder):
    assert result["schema"] == 1 and result["classes"] == result["labels"] == CLASSES
    assert result["net"]["sha256"] == file_sha256(folder / "net.h5")
    assert result["data"]["clean"]["sha256"] == file_sha256(folder / "clean.h5")
    assert result["seconds"] > 0 and result["seed"] == 0 and result["budget"] == "fast"
    assert (result["pictures"], result["input_range"]) == (160, "0,1")
    (flagged,) = result["flagged"]
    assert flagged["label"] == TARGET and flagged["attack_success"] > 0.9
    assert flagged["anomaly_index"] > result["limit"]
    assert [one["name"] for one in result["passes"]] == ["sharp", "smooth"]
    for one in result["passes"]:
        assert [entry["label"] for entry in one["all"]] == list(range(CLASSES))
        assert not any(entry["stopped_early"] for entry in one["all"])
        if one["name"] == flagged["pass"]:
            assert flagged["l1"] == one["all"][TARGET]["l1"]


def test_median_and_mad_are_those_of_the_norms(result):
    for one in result["passes"]:
        norms = np.array([entry["l1"] for entry in one["all"]])
        deviation = 1.4826 * np.median(np.abs(norms - np.median(norms)))
        assert one["median"] == pytest.approx(np.median(norms))
        assert one["mad"] == pytest.approx(deviation)
        index = [entry["mad_anomaly_index"] for entry in one["all"]]
        np.testing.assert_allclose(index, (np.median(norms) - norms) / deviation)
        by_norm = [int(label) for label in np.argsort(norms) if index[label] > 2]
        assert one["mad_flagged"] == by_norm and by_norm[0] == TARGET


def test_arrays_are_the_triggers(unlearnt, result, folder):
    with np.load(unlearnt[0] / "new/net.npz", allow_pickle=False) as stored:
        found = dict(stored)
    for one in result["passes"]:
        masks = found[f"{one['name']}_masks"]
        assert masks.shape == (CLASSES, *SHAPE[:2], 1)
        assert found[f"{one['name']}_patterns"].shape == (CLASSES, *SHAPE)
        norms = [entry["l1"] for entry in one["all"]]
        np.testing.assert_allclose(masks.sum(axis=(1, 2, 3)), norms, rtol=1e-5)
        np.testing.assert_allclose(found[f"{one['name']}_norms"], norms)
    fresh = clean_images(100, seed=6)
    others = fresh.images[fresh.labels != TARGET]
    stamped = stamp(others, found["smooth_masks"][TARGET], found["smooth_patterns"][TARGET])
    net = build(read_net(folder / "net.h5"))
    assert np.mean(predict_labels(net, stamped) == TARGET) > 0.9


def test_what_was_found_is_read_back(unlearnt, result, folder, monkeypatch):
    stem, sets = unlearnt[0] / "new/net", (folder / "net.h5", folder / "clean.h5")
    ((label, mask, pattern),) = found_triggers(stem)
    name = result["flagged"][0]["pass"]
    with np.load(f"{stem}.npz") as stored:
        np.testing.assert_array_equal(mask, stored[f"{name}_masks"][TARGET])
        np.testing.assert_array_equal(pattern, stored[f"{name}_patterns"][TARGET])
    assert label == TARGET
    assert scan_of(stem, *sets, input_range=UNIT) is None  # today's scans have other rungs
    short_rungs(monkeypatch)
    assert scan_of(stem, *sets, input_range=UNIT)["flagged"] == result["flagged"]
    assert scan_of(stem, *sets, input_range=InputRange(0, 255)) is None
    assert scan_of(stem, sets[0], sets[0], input_range=UNIT) is None  # other pictures
    assert scan_of(folder / "net", *sets, input_range=UNIT) is None


def test_files_that_no_scan_wrote(unlearnt, tmp_path):
    shutil.copy(unlearnt[0] / "new/net.json", tmp_path / "net.json")
    (tmp_path / "net.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"net\.npz: not what a scan of yours wrote; scan again"):
        found_triggers(tmp_path / "net")


def test_what_is_printed(unlearnt, result):
    _, printed = unlearnt
    assert f"1 of {CLASSES} labels flagged" in printed
    medians = re.findall(r"^median: (\S+), MAD: (\S+)$", printed, re.M)
    indices = re.findall(r"^anomaly index: (\S+)$", printed, re.M)
    lists = re.findall(r"^flagged label list: (.*)$", printed, re.M)
    passes = reversed(result["passes"])
    for one, middle, index, flagged in zip(passes, medians, indices, lists, strict=True):
        median, mad = map(float, middle)
        assert median == pytest.approx(one["median"], abs=1e-5)
        assert mad == pytest.approx(one["mad"], abs=1e-5)
        norms = [entry["l1"] for entry in one["all"]]
        assert float(index) == pytest.approx((median - min(norms)) / mad, abs=1e-3)
        expected = [f"{label}: {norms[label]:.1f}" for label in one["mad_flagged"]]
        assert flagged.split(", ") == expected
    assert "clean validation" in printed and "repaired" in printed


def test_pictures_of_the_scan(unlearnt):
    for name, least in (("triggers", 300), ("norms", 500)):
        with Image.open(unlearnt[0] / f"new/net.{name}.png") as picture:
            assert picture.format == "PNG" and picture.size[0] == 1200
            assert least < picture.size[1] < 1000
            assert np.asarray(picture.convert("L")).std() > 5


# Repairs -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pruned(folder, tmp_path_factory):
    """The folder of a scan of nine labels, pruned by the net's own answers alone."""
    out = tmp_path_factory.mktemp("pruned")
    chosen = ",".join(str(label) for label in range(CLASSES) if label != 4)
    code, _, told = scan(
        *(folder / "net.h5", "--clean", folder / "unlabelled.h5", "--labels", chosen),
        *("--repair", "prune", "--pseudo-labels", "--out", out / "net", "--seed", 5),
    )
    assert code == 1, told
    return out


def attack(net, folder):
    """Share of the poisoned pictures that a file's net sends to the target."""
    from badnet_defense.io import read_images

    poisoned = read_images(folder / "poisoned.h5", shape=SHAPE, classes=CLASSES)
    return np.mean(predict_labels(build(read_net(net)), poisoned.images) == TARGET)


def test_unlearning_repairs_the_net(unlearnt, folder, result):
    repaired = unlearnt[0] / "new/net.scan-unlearning.h5"
    assert attack(folder / "net.h5", folder) > 0.95
    assert attack(repaired, folder) < 0.5
    pair = read_pair(folder / "net.h5", repaired)
    about = result["repair"]
    record = RepairRecord.from_attributes(pair.repaired.attributes)
    assert record == RepairRecord(**about["repair_record"])
    assert record.source_sha256 == file_sha256(folder / "net.h5")
    assert (record.method, record.input_range) == ("scan-unlearning", "0,1")
    assert pair.repaired.attributes["input_range"] == "0,1"
    assert (about["method"], about["labels"]) == ("scan-unlearning", [TARGET])
    assert about["pseudo_labels"] is False
    clean = clean_images(160)
    share = np.mean(predict_labels(build(pair.repaired), clean.images) == clean.labels)
    assert about["repaired"]["clean_validation"]["accuracy"] == pytest.approx(share)
    assert about["bad"]["clean_validation"]["accuracy"] == 1.0


def test_guard_holds_both_nets(unlearnt, folder):
    shown = clean_images(6).images / np.float32(255)
    files = folder / "net.h5", unlearnt[0] / "new/net.scan-unlearning.h5"
    for spec, file in zip(
        read_guard(unlearnt[0] / "new/net.scan-unlearning.guard.keras").nets.values(),
        files,
        strict=True,
    ):
        np.testing.assert_allclose(
            spec.numpy_proba(shown), read_net(file).numpy_proba(shown), atol=1e-5
        )


def test_unlabelled_pictures_of_chosen_labels_and_a_pruned_net(pruned, folder):
    expected = [*ENDINGS, "scan-pruning.guard.keras", "scan-pruning.h5"]
    assert names(pruned) == sorted(f"net.{ending}" for ending in expected)
    result = json.loads((pruned / "net.json").read_text())
    assert result["labels"] == CLASSES - 1 and result["seed"] == 5
    assert result["references"] == [4] and result["passes"][1]["all"][-1]["label"] == 4
    assert result["flagged"][0]["label"] == TARGET
    about = result["repair"]
    assert about["labels"] == [entry["label"] for entry in result["flagged"]]
    assert (about["method"], about["layer"], about["pseudo_labels"]) == (
        "scan-pruning",
        "conv",
        True,
    )
    assert about["curve"][0] == about["bad"]["clean_validation"]["accuracy"] == 1.0
    assert about["success"][str(TARGET)][0] > 0.9
    repaired = read_pair(folder / "net.h5", pruned / "net.scan-pruning.h5").repaired
    silent = ~repaired.layers["conv"].weights[0].any(axis=(0, 1, 2))
    assert set(about["order"][: about["removed"]]) <= set(np.flatnonzero(silent).tolist())
    with np.load(pruned / "net.npz") as stored:
        assert stored["labels"].tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9, 4]


@pytest.mark.parametrize("made", ["unlearnt", "pruned"])
def test_eval_defense_takes_both_repairs(made, folder, request, tmp_path):
    out = request.getfixturevalue(made)
    repaired = (
        out / "net.scan-pruning.h5" if made == "pruned" else out[0] / "new/net.scan-unlearning.h5"
    )
    code, printed, told = called(
        lambda: runpy.run_path(str(ROOT / "eval_defense.py"), run_name="__main__"),
        "eval_defense.py",
        [
            *(folder / "poisoned.h5", folder / "net.h5", "--repaired", repaired),
            *("--clean-validation", folder / "clean.h5", "--clean-test", folder / "clean.h5"),
            *("--json", tmp_path / "judged.json"),
        ],
    )
    assert code == 0 and "attack success" in printed, told
    judged = json.loads((tmp_path / "judged.json").read_text())
    assert judged["bad"]["poisoned"]["attack_success"] > 0.95
    found = judged["repaired"]["poisoned"]["attack_success"]
    assert found == pytest.approx(attack(repaired, folder), abs=0.02)


def test_without_a_flagged_label_nothing_is_repaired(folder, tmp_path):
    """The reference that stands out is told, and is no verdict on the labels asked for."""
    code, printed, _ = scan(
        *(folder / "net.h5", "--clean", folder / "unlabelled.h5", "--labels", "2-3"),
        *("--out", tmp_path / "net", "--repair", "unlearn", "--pseudo-labels"),
    )
    last = printed.splitlines()[-1]
    assert code == 3 and last.startswith("suspicious: none of the labels that were asked for")
    assert names(tmp_path) == [f"net.{ending}" for ending in ENDINGS]
    result = json.loads((tmp_path / "net.json").read_text())
    assert result["flagged"] == [] and result["verdict"] == "suspicious"
    assert result["suspicious"] == [TARGET]
    assert f"label {TARGET}, which was scanned as a reference" in result["reason"]
    with pytest.raises(CannotJudgeError, match="suspicious: none of the labels"):
        found_triggers(tmp_path / "net")


def test_one_label_alone(folder, tmp_path):
    """The others are scanned beside it: alone it could never stand out."""
    arguments = ("--labels", TARGET, "--out", tmp_path / "net")
    code, printed, told = scan(folder / "net.h5", "--clean", folder / "unlabelled.h5", *arguments)
    assert code == 1 and "backdoored: 1 of 1 labels flagged" in printed, told


def test_a_net_without_a_backdoor_ends_with_0_and_shows_its_smallest_triggers(folder, tmp_path):
    save_net(planted_net(target=None), tmp_path / "clean.h5")
    given = (
        tmp_path / "clean.h5",
        "--clean",
        folder / "unlabelled.h5",
        "--out",
        tmp_path / "out/net",
    )
    code, printed, told = scan(*given)
    last = printed.splitlines()[-1]
    assert code == 0 and last.startswith("clean: nothing found, 0 of 10 labels flagged"), told
    result = json.loads((tmp_path / "out/net.json").read_text())
    assert (result["verdict"], result["reason"]) == ("clean", None)
    indices = [entry["anomaly_index"] for entry in result["smallest"]]
    assert indices == sorted(result["anomaly_indices"], reverse=True)[:3]
    with Image.open(tmp_path / "out/net.triggers.png") as picture:
        assert picture.size[1] > 800  # three rows
