"""Refusals of whole runs that would lose or mislead something."""

import argparse

import pytest
from small_grid import replace_repair
from small_nets import images, side_path_net
from small_project import known, small_challenge_net

from badnet_defense.cli import options
from badnet_defense.errors import InputError
from badnet_defense.guards.pairing import repaired_range
from badnet_defense.io import read_images, reading, write_challenge_h5
from badnet_defense.io.files import data_sha256, file_sha256
from badnet_defense.io.repair_record import RepairRecord
from badnet_defense.nets import read_net, save_net
from badnet_defense.nets.input_range import UNIT, InputRange
from badnet_defense.workflows.classify import classify_images
from badnet_defense.workflows.evaluate import evaluate_files
from badnet_defense.workflows.repair import repair_file


def test_a_repair_never_overwrites_the_net_itself(tmp_path):
    path = tmp_path / "net.h5"
    save_net(side_path_net(), path)
    before = path.read_bytes()
    write_challenge_h5(tmp_path / "clean.h5", images())
    with pytest.raises(InputError, match="would overwrite"):
        repair_file(path, tmp_path / "clean.h5", out=tmp_path)
    assert path.read_bytes() == before


def test_a_repair_s_range_is_used_and_another_is_refused(tmp_path, caplog):
    path = tmp_path / "net.h5"
    notes = {"source_sha256": "0" * 64, "input_range": "0,255"}
    save_net(side_path_net(), path, attributes=notes)
    wide = InputRange(0, 255)
    assert repaired_range(read_net(path), wide) == repaired_range(read_net(path), None) == wide
    assert not caplog.records
    fine = InputRange(0, 255.00000001)  # notes have six digits
    assert repaired_range(read_net(path), fine) == fine
    with pytest.raises(InputError, match=r"give 0,255 as the input range"):
        repaired_range(read_net(path), UNIT)
    with pytest.raises(InputError, match=r"give 0,255 as the input range"):
        classify_images([], path, home=tmp_path, alone=True, input_range=UNIT)
    save_net(side_path_net(), path)
    caplog.clear()
    assert repaired_range(read_net(path), wide) == wide and not caplog.records
    assert repaired_range(read_net(path), None) == UNIT
    assert "does not record its input range: 0,1 is assumed" in caplog.text


def test_judging_without_any_pictures_says_so(tmp_path):
    data = {"clean_validation": None, "clean_test": None, "poisoned": None}
    with pytest.raises(InputError, match="no images to evaluate with"):
        evaluate_files(tmp_path / "net.h5", data, folder=tmp_path)


@pytest.mark.parametrize("text", ["-1", "x", "4294967296", "1.5"])
def test_seeds_that_no_generator_takes(text):
    with pytest.raises(argparse.ArgumentTypeError, match="whole number"):
        options.seed(text)
    assert options.seed("7") == 7


def test_results_note_the_hash_of_what_was_read(tmp_path, monkeypatch):
    """Whoever puts another file there while the run works changes neither result nor repair."""
    model, clean = tmp_path / "net.h5", tmp_path / "clean.h5"
    net = small_challenge_net(seed=0)
    save_net(net, model)
    write_challenge_h5(clean, known(net, 60, seed=1))
    hashes = file_sha256(model), file_sha256(clean)

    def swapped(net_, data, *, config, targets=None, seed=0):
        save_net(small_challenge_net(seed=3), model)
        write_challenge_h5(clean, known(net, 60, seed=2))
        return net_, {}

    replace_repair(monkeypatch, "ft-sam", swapped)
    result = repair_file(model, clean, out=tmp_path / "out", method="ft-sam")
    noted = result["net"]["sha256"], result["data"]["clean_validation"]["sha256"]
    assert noted == hashes
    record = RepairRecord.from_attributes(read_net(tmp_path / "out/net.h5").attributes)
    assert record.source_sha256 == hashes[0]
    assert file_sha256(model) != hashes[0] and file_sha256(clean) != hashes[1]


def test_images_that_change_while_they_are_read_are_refused(tmp_path, monkeypatch, with_limits):
    with_limits(isolate=False)
    path = tmp_path / "clean.h5"
    write_challenge_h5(path, images())
    found = read_images(path, shape=images().images.shape[1:])
    assert found.sha256 == found.subset([0, 1]).sha256 == data_sha256(path)
    real = reading.read_challenge_h5

    def changing(*arguments, **settings):
        found = real(*arguments, **settings)
        write_challenge_h5(path, images(seed=9))
        return found

    monkeypatch.setattr(reading, "read_challenge_h5", changing)
    with pytest.raises(InputError, match="changed while it was read"):
        read_images(path, shape=images().images.shape[1:])
