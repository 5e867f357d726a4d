"""Refusals of whole runs that would lose or mislead something."""

import argparse

import pytest
from small_nets import images, side_path_net

from badnet_defense import console
from badnet_defense.data import write_challenge_h5
from badnet_defense.data.input_range import UNIT, InputRange
from badnet_defense.errors import InputError
from badnet_defense.guard.pairing import check_noted_range
from badnet_defense.nets import read_net, save_net
from badnet_defense.runs.answering import answer_pictures
from badnet_defense.runs.judging import judge_defense
from badnet_defense.runs.repairing import repair_file


def test_a_repair_never_overwrites_the_net_itself(tmp_path):
    path = tmp_path / "net.h5"
    save_net(side_path_net(), path)
    before = path.read_bytes()
    write_challenge_h5(tmp_path / "clean.h5", images())
    with pytest.raises(InputError, match="would overwrite"):
        repair_file(path, tmp_path / "clean.h5", out=tmp_path)
    assert path.read_bytes() == before


def test_a_repair_for_another_range_is_refused_with_the_flag(tmp_path):
    path = tmp_path / "net.h5"
    save_net(side_path_net(), path, attributes={"source_sha256": "x", "input_range": "0,255"})
    check_noted_range(read_net(path), InputRange(0, 255))
    with pytest.raises(InputError, match=r"give --input-range 0,255"):
        check_noted_range(read_net(path), UNIT)
    with pytest.raises(InputError, match=r"give --input-range 0,255"):
        answer_pictures([], path, root=tmp_path)


def test_judging_without_any_pictures_says_so(tmp_path):
    data = {"clean_validation": None, "clean_test": None, "poisoned": None}
    with pytest.raises(InputError, match="no pictures to judge with"):
        judge_defense(tmp_path / "net.h5", data, folder=tmp_path)


@pytest.mark.parametrize("text", ["-1", "x", "4294967296", "1.5"])
def test_seeds_that_no_generator_takes(text):
    with pytest.raises(argparse.ArgumentTypeError, match="whole number"):
        console.seed(text)
    assert console.seed("7") == 7
