"""Writing: whole or not at all, on a full or closed place, after a kill, and beside another run."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hostile_nets import plain_net
from small_project import start

from badnet_defense.data.files import new_hdf5, only_run, replace_when_done
from badnet_defense.errors import InputError
from badnet_defense.nets import save_net

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 kB; skips where none may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    asked = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(asked, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command here")
    if done.returncode:
        pytest.skip("no disk may be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def closed(disk):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


def write_text(path):
    with replace_when_done(path) as partial:
        partial.write_text("x" * 200_000)


def write_hdf5(path):
    with new_hdf5(path) as file:
        file["data"] = np.zeros(200_000)


def write_arrays(path):
    with replace_when_done(path) as partial:
        np.savez(partial, values=np.zeros(200_000))


WRITERS = {"a.json": write_text, "a.h5": write_hdf5, "a.npz": write_arrays}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_sentence_and_keeps_the_old_file(name, small_disk):
    path = small_disk / name
    path.write_bytes(b"old")
    with pytest.raises(InputError, match=r"No space left on device.*nothing half-written"):
        WRITERS[name](path)
    assert path.read_bytes() == b"old" and os.listdir(small_disk) == [name]


@pytest.mark.parametrize("name", WRITERS)
def test_a_closed_disk_is_one_sentence(name, small_disk):
    closed(small_disk)
    with pytest.raises(InputError, match=r"cannot be written"):
        WRITERS[name](small_disk / name)
    assert os.listdir(small_disk) == []


def test_scripts_on_a_full_and_on_a_closed_disk(project, small_disk):
    call = ["fine_prune.py", "models/sunglasses_bd_net.h5", "--epochs", "1", "--out"]
    (small_disk / "filled").write_bytes(bytes(40_000))
    for _ in range(2):
        done = start(project, *call, str(small_disk))
        assert done.returncode == 2
        told = done.stderr.strip().splitlines()[-1]
        assert "cannot be written" in told or "Read-only file system" in told
        assert "Traceback" not in done.stderr
        assert not list(small_disk.glob(".*partial*"))
        closed(small_disk)


def test_other_errors_pass_unchanged(tmp_path):
    with pytest.raises(OSError, match="anything"), replace_when_done(tmp_path / "a.txt"):
        raise OSError("anything")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_is_cleaned_up(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine, alive = f".a.{ended.pid}.partial.json", f".a.{os.getppid()}.partial.json"
    others = [f".b.{ended.pid}.partial.json", f".a.{ended.pid}.partial.h5", ".a.x.partial.json"]
    for name in (mine, alive, *others):
        (tmp_path / name).write_text("half")
    with replace_when_done(tmp_path / "a.json") as partial:
        partial.write_text("whole")
    assert sorted(os.listdir(tmp_path)) == sorted([alive, *others, "a.json"])
    assert (tmp_path / "a.json").read_text() == "whole"


def test_a_second_run_into_one_place_is_refused(tmp_path):
    code = (
        "import sys; from badnet_defense.data.files import only_run\n"
        "with only_run(sys.argv[1]): print('in', flush=True); sys.stdin.read()"
    )
    out = tmp_path / "out"
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(out)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert first.stdout.readline() == "in\n"
    with pytest.raises(InputError, match="another run is writing there"), only_run(out):
        pass
    with only_run(tmp_path / "other"):
        pass
    first.kill()  # a lock ends with its process
    first.wait()
    with only_run(out), contextlib.suppress(InputError):
        pass


def test_two_repairs_at_once(project, tmp_path):
    call = [sys.executable, "fine_prune.py", "models/sunglasses_bd_net.h5", "--epochs", "2"]
    settings = {"cwd": project, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "text": True}
    runs = [
        subprocess.Popen([*call, "--out", str(tmp_path)], stderr=subprocess.PIPE, **settings)
        for _ in range(2)
    ]
    told = [run.communicate(timeout=120)[1] for run in runs]
    codes = sorted(run.returncode for run in runs)
    assert codes in ([0, 2], [0, 0])  # one may have ended before the other began
    if codes == [0, 2]:
        assert any("another run is writing there" in one for one in told)
    assert json.loads((tmp_path / "sunglasses_bd_net.json").read_text())["schema"] == 1
    assert not list(tmp_path.glob(".*"))


def test_a_net_on_a_full_disk(small_disk):
    (small_disk / "filled").write_bytes(bytes(60_000))
    with pytest.raises(InputError, match="cannot be written"):
        save_net(plain_net(), small_disk / "net.h5")
    assert os.listdir(small_disk) == ["filled"]
