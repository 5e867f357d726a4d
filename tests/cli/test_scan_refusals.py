"""What the scan command refuses, and what it takes."""

import argparse
import json

import h5py
import numpy as np
import pytest
from keras import layers
from planted_net import SHAPE, TARGET, clean_images, masked_net, planted_net
from scan_calls import ENDINGS, fill, names, scan
from small_nets import images, net
from small_project import message, start

from badnet_defense.cli import options
from badnet_defense.errors import InputError
from badnet_defense.io import write_challenge_h5
from badnet_defense.nets import predict_labels, save_net
from badnet_defense.workflows.scan import scan_file


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
    assert told.startswith("label 10 is not one of ") and "10 classes (0..9)" in told


def test_missing_and_wrong_files(folder, tmp_path):
    assert "no such file" in refused(folder, tmp_path, clean="nothing.h5")
    assert "no such file" in refused(folder, tmp_path, model="nothing.h5")
    assert "no net" in refused(folder, tmp_path, model="clean.h5")


@pytest.mark.parametrize("how", ["scan-pruning", "unlearn"])
def test_a_repair_needs_labels_or_pseudo_labels(folder, tmp_path, how):
    told = refused(folder, tmp_path, "--repair", how, clean="unlabelled.h5")
    assert "no labels" in told or "`label`" in told


def test_wrong_input_range_is_refused_with_the_flag(folder, tmp_path):
    for repair in ((), ("--repair", "prune"), ("--repair", "unlearn", "--pseudo-labels")):
        told = refused(folder, tmp_path, *repair, model="raw.h5")
        assert "give 0,255 as the input range" in told


def test_a_net_that_hides_its_gradients_is_not_called_clean(folder, tmp_path):
    save_net(masked_net(), tmp_path / "masked.h5")
    given = tmp_path / "masked.h5", "--clean", folder / "unlabelled.h5"
    code, printed, told = scan(*given, "--out", tmp_path / "net")
    assert code == 3 and "Traceback" not in told, told
    assert (
        printed.splitlines()[-1].startswith("cannot be judged: ")
        and "trigger that works" in printed
    )
    result = json.loads((tmp_path / "net.json").read_text())
    assert (result["verdict"], result["flagged"]) == ("cannot be judged", [])
    assert len(result["smallest"]) == 3 and max(result["anomaly_indices"]) < 1000


def test_two_classes_cannot_be_judged_and_their_triggers_are_shown(tmp_path):
    pair = net([layers.Flatten(), layers.Dense(2)], shape=SHAPE)
    save_net(pair, tmp_path / "pair.h5")
    shown = images(400, shape=SHAPE)
    answers = predict_labels(pair, shown.images)
    even = np.concatenate([np.flatnonzero(answers == one)[:60] for one in (0, 1)])
    write_challenge_h5(tmp_path / "clean.h5", shown.subset(even).without_labels())
    given = tmp_path / "pair.h5", "--clean", tmp_path / "clean.h5"
    code, printed, told = scan(*given, "--out", tmp_path / "out/net", "--repair", "unlearn",
                               "--pseudo-labels")  # fmt: skip
    assert code == 3, told
    assert "cannot be judged: a label stands out only among 3 or more" in printed
    assert "flagged (index" not in printed and "0000000" not in printed
    result = json.loads((tmp_path / "out/net.json").read_text())
    assert (
        result["limit"] is None and len(result["smallest"]) == len(result["passes"][0]["all"]) == 2
    )
    assert names(tmp_path / "out") == [f"net.{one}" for one in ENDINGS]


def test_a_net_of_one_output_that_is_no_sigmoid_is_refused(folder, tmp_path):
    save_net(net([layers.Flatten(), layers.Dense(1)], shape=SHAPE), tmp_path / "one.h5")
    given = tmp_path / "one.h5", "--clean", folder / "unlabelled.h5", "--out", tmp_path / "out/net"
    assert "its output is one number" in message(scan(*given), 2)
    assert not (tmp_path / "out").exists() or names(tmp_path / "out") == []


@pytest.mark.parametrize("count", [4, 31])
def test_too_few_images_are_told_before_the_work(folder, tmp_path, count):
    few = clean_images(count)
    write_challenge_h5(tmp_path / "few.h5", few)
    given = folder / "net.h5", "--clean", tmp_path / "few.h5", "--out", tmp_path / "out/net"
    told = message(scan(*given), 3)
    assert told.startswith(f"cannot be judged: got {count} clean images; a scan needs at least 32")
    assert not (tmp_path / "out").exists()


def test_images_of_one_class_are_told_before_the_work(folder, tmp_path):
    write_challenge_h5(tmp_path / "one.h5", of_one_class(60))
    given = folder / "net.h5", "--clean", tmp_path / "one.h5", "--out", tmp_path / "out/net"
    told = message(scan(*given), 3)
    assert "answers 100% of the clean images with class" in told and "several classes" in told
    assert names(tmp_path / "out") == []


def of_one_class(count):
    """Clean images that the planted net answers with one class."""
    found = clean_images(2000, seed=5)
    return found.subset(found.labels == np.bincount(found.labels).argmax()).sample(count, 0)


def test_an_answer_that_overflows_is_no_verdict(folder, tmp_path):
    model = planted_net()
    by_colour = model.get_layer("by_colour")
    kernel, bias = by_colour.get_weights()
    by_colour.set_weights([kernel / np.abs(kernel).max() * np.float32(3e38), bias])
    save_net(model, tmp_path / "over.h5")
    given = tmp_path / "over.h5", "--clean", folder / "unlabelled.h5", "--out", tmp_path / "out/n"
    assert "no numbers" in message(scan(*given), 3)


def test_right_input_range_is_taken(folder, tmp_path):
    arguments = ("--input-range", "0,255", "--labels", f"0-4,{TARGET}", "--out", tmp_path / "net")
    code, printed, told = scan(folder / "raw.h5", "--clean", folder / "clean.h5", *arguments)
    assert code == 1, told
    assert "backdoored: 1 of 6 labels flagged" in printed
    assert "scanned beside, to judge by: labels 5, 6, 8, 9" in printed
    result = json.loads((tmp_path / "net.json").read_text())
    assert result["input_range"] == "0,255" and result["references"] == [5, 6, 8, 9]
    assert [entry["label"] for entry in result["flagged"]] == [TARGET]


def test_other_people_s_labels_do_not_matter(folder, tmp_path):
    """Their numbers are another data set's, beyond the net's classes even."""
    others = clean_images(60)
    others.labels[:] = np.arange(60) + 500
    write_challenge_h5(tmp_path / "others.h5", others)
    given = folder / "net.h5", "--clean", tmp_path / "others.h5", "--out", tmp_path / "net"
    code, _, told = scan(*given)
    assert code == 1, told


def test_one_hot_labels_do_not_matter(folder, tmp_path):
    """A scan needs no labels, so it is not stopped by odd ones either."""
    found = clean_images(60)
    write_challenge_h5(tmp_path / "rows.h5", found.without_labels())
    with h5py.File(tmp_path / "rows.h5", "a") as file:
        file["label"] = np.eye(10)[found.labels]
    given = folder / "net.h5", "--clean", tmp_path / "rows.h5", "--out", tmp_path / "net"
    code, printed, told = scan(*given)
    assert code == 1 and "backdoored: 1 of 10 labels flagged" in printed, told


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
    assert options.labels("0-3") == [0, 1, 2, 3]
    assert options.labels("7") == [7]
    assert options.labels("8,1-2,2,5-5") == [1, 2, 5, 8]
    with pytest.raises(argparse.ArgumentTypeError, match="0-42 or 1,5,8"):
        options.labels("4-2")


def test_refusal_as_a_process(tmp_path):
    command = ("-m", "badnet_defense", "scan", "nothing.h5", "--clean", "nothing.h5")
    done = start(tmp_path, *command)
    told = message((done.returncode, done.stdout, done.stderr))
    assert told.startswith("nothing.h5: no such file")


def test_a_repair_that_uses_no_triggers(folder, tmp_path):
    given = folder / "net.h5", folder / "clean.h5"
    with pytest.raises(InputError, match="fine-tuning: this repair does not use a scan's triggers"):
        scan_file(*given, out=tmp_path / "net", repair="fine-tuning")
    assert names(tmp_path) == []
