"""Units of a scan on disk: scans that were stopped or killed go on to the same result."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from planted_net import (
    SHAPE,
    assert_equal_scans,
    clean_images,
    planted_net,
    scanned,
    short_rungs,
)
from small_nets import images
from small_project import ROOT

from badnet_defense.io import records, write_challenge_h5
from badnet_defense.io.current import CODE_VERSIONS
from badnet_defense.nets import describe, save_net
from badnet_defense.nets.input_range import UNIT
from badnet_defense.scan import halving, schedule
from badnet_defense.scan.progress import Progress
from badnet_defense.scan.registry import SCAN_PASSES
from badnet_defense.scan.schedule import Rung
from badnet_defense.workflows import scan as scanning
from badnet_defense.workflows.scan import scan_file
from badnet_defense.workflows.scanned import scan_of


@pytest.fixture(scope="module")
def spec():
    return describe(planted_net())


@pytest.fixture(scope="module")
def pictures():
    return images(200, shape=SHAPE).images


# Progress ----------------------------------------------------------------------------------------


def unit(first=0):
    return {"mask": np.arange(first, first + 6.0).reshape(2, 3), "cost": np.float32([0.1, 0.3])}


def assert_equal_units(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_a_unit_is_read_back_as_it_was_kept(tmp_path):
    Progress(tmp_path / "a/b.partial", {"net": 1}).keep("first", unit())
    again = Progress(tmp_path / "a/b.partial", {"net": 1})
    assert_equal_units(again.stored("first"), unit())
    assert again.stored("second") is None


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    progress = Progress(None, {})
    progress.keep("first", unit())
    assert progress.stored("first") is None
    progress.forget()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("left", [0, 1, 5, 60, 0.5, 0.95])
def test_a_truncated_unit_is_no_unit(tmp_path, left):
    progress = Progress(tmp_path / "p", {})
    progress.keep("first", unit())
    path = tmp_path / "p/first.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: left if isinstance(left, int) else int(left * len(whole))])
    assert progress.stored("first") is None
    progress.keep("first", unit(3))
    assert_equal_units(Progress(tmp_path / "p", {}).stored("first"), unit(3))


def test_a_file_that_is_something_else_is_no_unit(tmp_path):
    progress = Progress(tmp_path / "p", {})
    (tmp_path / "p/first.npz").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert progress.stored("first") is None
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["scan.json"]


def test_another_scan_s_units_are_thrown_away(tmp_path):
    Progress(tmp_path / "p", {"seed": 0}).keep("first", unit())
    other = Progress(tmp_path / "p", {"seed": 1})
    assert other.stored("first") is None
    other.forget()
    assert not (tmp_path / "p").exists()


# Scans that are stopped --------------------------------------------------------------------------

THREE = (Rung(12, 8), Rung(12, 12), Rung(20, 16))


class Counted(Progress):
    """Notes the units that it makes, and stops in the middle of the unit `stop`."""

    def __init__(self, folder, *, stop=None):
        super().__init__(folder, {"scan": "a"})
        self.stop, self.made = stop, []

    def keep(self, name, unit):
        self.made.append(name)
        if len(self.made) == self.stop:
            raise KeyboardInterrupt
        super().keep(name, unit)


@pytest.fixture
def three_at_once(monkeypatch):
    """Three rungs in four units each."""
    monkeypatch.setattr(halving, "LABELS_AT_ONCE", 3)


@pytest.fixture(scope="module")
def whole(spec, pictures):
    """A scan of those rungs that nothing stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(halving, "LABELS_AT_ONCE", 3)
        return scanned(spec, pictures, rungs=THREE)


@pytest.mark.parametrize("stop", [2, 5, 12])
def test_a_stopped_scan_goes_on_to_the_same_bits(
    spec, pictures, tmp_path, three_at_once, whole, stop
):
    """Stopped within the first rung, at a rung's end, and in the last unit."""
    first, second = Counted(tmp_path / "p", stop=stop), Counted(tmp_path / "p")
    with pytest.raises(KeyboardInterrupt):
        scanned(spec, pictures, rungs=THREE, progress=first)
    assert len(list((tmp_path / "p").glob("*.npz"))) == stop - 1
    resumed = scanned(spec, pictures, rungs=THREE, progress=second)
    assert len(second.made) == 13 - stop and not set(first.made[:-1]) & set(second.made)
    assert_equal_scans(resumed, whole)


def test_a_damaged_unit_costs_that_unit_alone(spec, pictures, tmp_path, three_at_once, whole):
    scanned(spec, pictures, rungs=THREE, progress=Counted(tmp_path / "p"))
    damaged = sorted((tmp_path / "p").glob("*.npz"))[5]
    damaged.write_bytes(damaged.read_bytes()[:-200])
    progress = Counted(tmp_path / "p")
    assert_equal_scans(scanned(spec, pictures, rungs=THREE, progress=progress), whole)
    assert progress.made == [damaged.stem]


def test_a_stopped_scan_of_fewer_and_fewer_labels(spec, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "MIN_SURVIVORS", 1)
    monkeypatch.setattr(schedule, "REFERENCES", 2)
    monkeypatch.setattr(schedule, "SUSPECTS", 0)
    rungs = (Rung(12, 8, 0.4), Rung(12, 8, 0.2), Rung(20, 16))
    first, second = Counted(tmp_path / "p", stop=3), Counted(tmp_path / "p")
    with pytest.raises(KeyboardInterrupt):
        scanned(spec, pictures, rungs=rungs, progress=first)
    resumed = scanned(spec, pictures, rungs=rungs, progress=second)
    assert len(second.made) == 1 and resumed.stopped.any()
    assert_equal_scans(resumed, scanned(spec, pictures, rungs=rungs))


# Killed ------------------------------------------------------------------------------------------

UNITS = 8
SHORT = """
import pytest
from planted_net import short_rungs
from badnet_defense.cli import console
from badnet_defense.cli.main import main
from badnet_defense.scan import halving, schedule

halving.LABELS_AT_ONCE = 4
short_rungs(pytest.MonkeyPatch(), (schedule.Rung(30, 8), schedule.Rung(40, 12)))
console.run(main)
"""


@pytest.fixture
def short(monkeypatch):
    """The same settings for this process: two rungs of four units each."""
    monkeypatch.setattr(halving, "LABELS_AT_ONCE", 4)
    short_rungs(monkeypatch, (Rung(30, 8), Rung(40, 12)))


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("rung*.npz")}


def kill_after_the_first_unit(folder, command):
    """Runs the command and kills it, without a word, once a unit lies in `folder`."""
    with subprocess.Popen(
        [sys.executable, "-c", SHORT, *map(str, command)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        end = time.monotonic() + 200
        while not times(folder) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def test_a_killed_command_goes_on_to_the_same_result(tmp_path, short, monkeypatch):
    net, clean = tmp_path / "net.h5", tmp_path / "clean.h5"
    save_net(planted_net(), net)
    write_challenge_h5(clean, clean_images(80))
    units = tmp_path / "killed.partial"
    command = ["scan", net, "--clean", clean, "--out", tmp_path / "killed"]
    kill_after_the_first_unit(units, command)
    done, at_the_end, forget = times(units), {}, Progress.forget
    assert 1 <= len(done) < UNITS and not (tmp_path / "killed.json").exists()

    def look_and_forget(progress):
        at_the_end.update(times(progress.folder))
        forget(progress)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "forget", look_and_forget)
        scan_file(net, clean, out=tmp_path / "killed")
    assert len(at_the_end) == UNITS and done.items() <= at_the_end.items()  # none made again
    assert not units.exists()

    scan_file(net, clean, out=tmp_path / "whole")
    results = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("killed", "whole")]
    for key in ("passes", "flagged", "anomaly_indices", "limit"):
        assert results[0][key] == results[1][key]
    with np.load(tmp_path / "killed.npz") as one, np.load(tmp_path / "whole.npz") as other:
        assert set(one) == set(other)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


# Other code --------------------------------------------------------------------------------------


def rung_files(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("rung*.npz")}


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (lambda patch: None, True),
        (lambda patch: patch.setattr(records, "code_sha256", lambda: "other"), True),
        (lambda patch: patch.setitem(CODE_VERSIONS, "statistic", -1), True),  # after the triggers
        (lambda patch: patch.setitem(CODE_VERSIONS, "inversion", -1), False),
        (lambda patch: raise_version(patch, "sharp"), False),
        (lambda patch: patch.setattr(halving, "LABELS_AT_ONCE", 3), False),
    ],
)
def test_finished_tasks_that_today_s_code_might_not_give_are_run_again(
    tmp_path, monkeypatch, change, kept
):
    net, clean = tmp_path / "net.h5", tmp_path / "clean.h5"
    save_net(planted_net(), net)
    write_challenge_h5(clean, clean_images(60))
    short_rungs(monkeypatch, (Rung(3, 8), Rung(3, 8)))
    with monkeypatch.context() as patch:
        patch.setattr(scanning, "write_scan", stop)
        with pytest.raises(KeyboardInterrupt):
            scan_file(net, clean, out=tmp_path / "out")
    before = rung_files(tmp_path / "out.partial")
    assert before
    change(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(scanning, "write_scan", stop)
        with pytest.raises(KeyboardInterrupt):
            scan_file(net, clean, out=tmp_path / "out")
    assert (rung_files(tmp_path / "out.partial") == before) == kept


def stop(*_):
    raise KeyboardInterrupt


def raise_version(patch, name):
    """A pass of today computes something else."""
    raised = replace(SCAN_PASSES[name], version=SCAN_PASSES[name].version + 1)
    patch.setitem(SCAN_PASSES._methods, name, raised)


def test_a_finished_scan_of_other_code_is_not_taken(tmp_path, monkeypatch):
    net, clean = tmp_path / "net.h5", tmp_path / "clean.h5"
    save_net(planted_net(), net)
    write_challenge_h5(clean, clean_images(60))
    short_rungs(monkeypatch, (Rung(3, 8), Rung(3, 8)))
    scan_file(net, clean, out=tmp_path / "out", seed=4)
    found = functools.partial(scan_of, tmp_path / "out", net, clean, input_range=UNIT)
    assert found()["seed"] == 4
    with monkeypatch.context() as patch:
        patch.setitem(CODE_VERSIONS, "statistic", -1)
        assert found() is None
    raise_version(monkeypatch, "smooth")
    assert found() is None
