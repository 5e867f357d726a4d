"""What the scan command refuses, and what it takes."""

import argparse
import json

import numpy as np
import pytest
from planted_net import TARGET, clean_images, masked_net
from scan_calls import fill, names, scan
from small_project import message, start

from badnet_defense import console
from badnet_defense.data import write_challenge_h5
from badnet_defense.nets import save_net


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("scanned")
    fill(root)
    return root


def refused(folder, tmp_path, *arguments, model="net.h5", clean="clean.h5", code=2):
    given = folder / model, "--clean", folder / clean, "--out", tmp_path / "net", *arguments
    told = message(scan(*given), code)
    assert names(tmp_path) == []
    return told


def test_labels_that_the_net_does_not_have(folder, tmp_path):
    told = refused(folder, tmp_path, "--labels", "3,8-10")
    assert "--labels: 10" in told and "10 classes (0..9)" in told


def test_missing_and_wrong_files(folder, tmp_path):
    assert "no such file" in refused(folder, tmp_path, clean="nothing.h5")
    assert "no such file" in refused(folder, tmp_path, model="nothing.h5")
    assert "no net" in refused(folder, tmp_path, model="clean.h5")


@pytest.mark.parametrize("how", ["prune", "unlearn"])
def test_a_repair_needs_labels_or_pseudo_labels(folder, tmp_path, how):
    told = refused(folder, tmp_path, "--repair", how, clean="unlabelled.h5")
    assert "no labels" in told or "`label`" in told


def test_wrong_input_range_is_refused_with_the_flag(folder, tmp_path):
    for repair in ((), ("--repair", "prune"), ("--repair", "prune", "--pseudo-labels")):
        told = refused(folder, tmp_path, *repair, model="raw.h5")
        assert "give --input-range 0,255" in told


def test_a_net_that_hides_its_gradients_is_not_passed_over_in_silence(folder, tmp_path, caplog):
    save_net(masked_net(), tmp_path / "masked.h5")
    given = tmp_path / "masked.h5", "--clean", folder / "unlabelled.h5", "--labels", "0-4"
    code, _, told = scan(*given, "--out", tmp_path / "net")
    assert code == 0, told
    assert "hardly any label has a trigger that works" in caplog.text


def test_right_input_range_is_taken(folder, tmp_path):
    arguments = ("--input-range", "0,255", "--labels", f"0-4,{TARGET}", "--out", tmp_path / "net")
    code, _, told = scan(folder / "raw.h5", "--clean", folder / "clean.h5", *arguments)
    assert code == 0, told
    result = json.loads((tmp_path / "net.json").read_text())
    assert result["input_range"] == "0,255"
    assert [entry["label"] for entry in result["flagged"]] == [TARGET]


def test_other_people_s_labels_do_not_matter(folder, tmp_path):
    """Their numbers are another data set's, beyond the net's classes even."""
    others = clean_images(60)
    others.labels[:] = np.arange(60) + 500
    write_challenge_h5(tmp_path / "others.h5", others)
    arguments = ("--labels", "0-1", "--out", tmp_path / "net")
    code, _, told = scan(folder / "net.h5", "--clean", tmp_path / "others.h5", *arguments)
    assert code == 0, told


@pytest.mark.parametrize(
    "labels", ["", "x", "3-1", "1,,2", "1-2-3", "1.5", "0-", "-4", "1, 2,", "²", "0-99999999999"]
)
def test_malformed_labels(folder, tmp_path, labels):
    given = (folder / "net.h5", "--clean", folder / "clean.h5", f"--labels={labels}")
    code, out, err = scan(*given, "--out", tmp_path / "net")
    assert code == 2 and out == "" and "--labels" in err and "Traceback" not in err
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("net.h5",),
        ("net.h5", "--clean", "clean.h5", "--budget", "enormous"),
        ("net.h5", "--clean", "clean.h5", "--repair", "hope"),
        ("net.h5", "--clean", "clean.h5", "--seed", "-1"),
        ("net.h5", "--clean", "clean.h5", "--input-range", "5"),
    ],
)
def test_wrong_usage_exits_with_2(arguments):
    code, out, err = scan(*arguments)
    assert code == 2 and out == "" and "usage:" in err and "Traceback" not in err


def test_labels_are_numbers_and_ranges():
    assert console.labels("0-3") == [0, 1, 2, 3]
    assert console.labels("7") == [7]
    assert console.labels("8,1-2,2,5-5") == [1, 2, 5, 8]
    with pytest.raises(argparse.ArgumentTypeError, match="0-42 or 1,5,8"):
        console.labels("4-2")


def test_refusal_as_a_process(tmp_path):
    command = ("-m", "badnet_defense", "scan", "nothing.h5", "--clean", "nothing.h5")
    done = start(tmp_path, *command)
    told = message((done.returncode, done.stdout, done.stderr))
    assert told.startswith("nothing.h5: no such file")
