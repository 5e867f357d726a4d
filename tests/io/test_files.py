"""Writing: whole or not at all, on a full or closed place, after a kill, and beside another run."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hostile_nets import plain_net
from small_project import SPACES, start

from badnet_defense.errors import InputError
from badnet_defense.io.files import (
    all_or_none,
    atomic_write,
    exclusive,
    new_hdf5,
    own_temporary_files,
    read_plain,
    user_temp_dir,
)
from badnet_defense.io.records import write_json
from badnet_defense.nets import save_net

ROOT = Path(__file__).resolve().parents[2]


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
    with atomic_write(path) as partial:
        partial.write_text("x" * 200_000)


def write_hdf5(path):
    with new_hdf5(path) as file:
        file["data"] = np.zeros(200_000)


def write_arrays(path):
    with atomic_write(path) as partial:
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
    """What was found out is told; of a repair that is not there nothing else is there either."""
    call = ["fine_prune.py", "models/sunglasses_bd_net.h5", "--epochs", "1", "--out"]
    (small_disk / "filled").write_bytes(bytes(40_000))
    for full in (True, False):
        done = start(project, *call, str(small_disk))
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert "cannot be written" in done.stderr.strip().splitlines()[-1]
        assert ("clean validation" in done.stdout) == full  # else it is refused before the work
        assert os.listdir(small_disk) == ["filled"]
        closed(small_disk)


def test_a_plot_that_cannot_be_written_costs_no_figures(repaired, small_disk):
    project, _ = repaired
    (small_disk / "filled").write_bytes(bytes(60_000))
    net, poisoned = "models/sunglasses_bd_net.h5", f"{SPACES}"
    plots = ["--detector", "hard", "--plots", str(small_disk / "plot")]
    done = start(project, "eval_defense.py", poisoned, net, *plots)
    assert done.returncode == 2 and "attack success" in done.stdout
    assert "plot.roc.png: cannot be written (No space" in done.stderr.strip().splitlines()[-1]
    assert os.listdir(small_disk) == ["filled"]


def test_other_errors_pass_unchanged(tmp_path):
    with pytest.raises(OSError, match="anything"), atomic_write(tmp_path / "a.txt"):
        raise OSError("anything")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_is_cleaned_up(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine, alive = f".a.{ended.pid}.partial.json", f".a.{os.getppid()}.partial.json"
    others = [f".b.{ended.pid}.partial.json", f".a.{ended.pid}.partial.h5", ".a.x.partial.json"]
    for name in (mine, alive, *others):
        (tmp_path / name).write_text("half")
    with atomic_write(tmp_path / "a.json") as partial:
        partial.write_text("whole")
    assert sorted(os.listdir(tmp_path)) == sorted([alive, *others, "a.json"])
    assert (tmp_path / "a.json").read_text() == "whole"


def test_a_second_run_into_one_place_is_refused(tmp_path):
    code = (
        "import sys; from badnet_defense.io.files import exclusive\n"
        "with exclusive(sys.argv[1]): print('in', flush=True); sys.stdin.read()"
    )
    out = tmp_path / "out"
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(out)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert first.stdout.readline() == "in\n"
    with pytest.raises(InputError, match="another run is writing there"), exclusive(out):
        pass
    with exclusive(tmp_path / "other"):
        pass
    first.kill()  # a lock ends with its process
    first.wait()
    with exclusive(out), contextlib.suppress(InputError):
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


# Somebody else on this machine -------------------------------------------------------------------


def test_a_planted_link_is_not_written_through(tmp_path, monkeypatch):
    """The name is none that can be foreseen, and one that is there already is not opened."""
    victim = tmp_path / "victim.txt"
    victim.write_text("precious")
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / f".a.{os.getpid()}.partial.json").symlink_to(victim)
    names = set()
    for _ in range(2):
        with atomic_write(folder / "a.json") as partial:
            assert not partial.is_symlink() and partial.stat().st_size == 0
            names.add(partial.name)
            partial.write_text("mine")
    assert len(names) == 2 and (folder / "a.json").read_text() == "mine"
    monkeypatch.setattr("secrets.token_hex", lambda count: "known")
    planted = folder / f".a.{os.getpid()}.known.partial.json"
    planted.symlink_to(victim)
    with pytest.raises(FileExistsError), atomic_write(folder / "a.json"):
        raise AssertionError
    assert victim.read_text() == "precious"


def test_cleaning_up_follows_no_link(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    victim = tmp_path / "victim.txt"
    victim.write_text("precious")
    left = tmp_path / f".a.{ended.pid}.0123.partial.json"
    left.symlink_to(victim)
    write_json(tmp_path / "a.json", {})
    assert not left.is_symlink() and victim.read_text() == "precious"


@pytest.fixture
def other_user(monkeypatch):
    """A user's number that is not that of who runs the tests; skips where files cannot be given."""
    if os.getuid():
        pytest.skip("only root can give files to others")
    return 12345


def test_a_link_of_another_user_is_no_way_to_results(tmp_path, other_user):
    (tmp_path / "real").mkdir()
    (tmp_path / "own").symlink_to(tmp_path / "real")
    (tmp_path / "theirs").symlink_to(tmp_path / "real")
    os.chown(tmp_path / "theirs", other_user, other_user, follow_symlinks=False)
    write_json(tmp_path / "own/a.json", {})
    with pytest.raises(InputError, match="theirs: this is a link of another user"):
        write_json(tmp_path / "theirs/nets/b.json", {})
    assert os.listdir(tmp_path / "real") == ["a.json"]


def test_a_folder_of_another_user_is_not_taken_and_stops_nobody(tmp_path, monkeypatch, other_user):
    """Root takes no other user's folder either."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    taken = tmp_path / f"badnet_defense.{os.getuid()}"
    assert user_temp_dir() == taken and taken.stat().st_mode & 0o777 == 0o700
    os.chown(taken, other_user, other_user)
    second = user_temp_dir()
    assert second.parent == tmp_path / "run" and second.stat().st_mode & 0o777 == 0o700
    asked = pytest.raises(InputError, match="another run")
    with exclusive(tmp_path / "out"), asked, exclusive(tmp_path / "out"):
        pass
    os.chown(second, other_user, other_user)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert user_temp_dir().parent == tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/no")
    with pytest.raises(InputError, match=r"no folder of your own.*name a place with TMPDIR"):
        user_temp_dir()


@pytest.mark.parametrize("make", ["link", "file", "open to all"])
def test_what_is_no_folder_of_one_s_own(make, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    taken = tmp_path / f"badnet_defense.{os.getuid()}"
    if make == "link":
        (tmp_path / "elsewhere").mkdir()
        taken.symlink_to(tmp_path / "elsewhere")
    elif make == "file":
        taken.write_text("")
    else:
        taken.mkdir()
        taken.chmod(0o777)
    assert user_temp_dir().parent == tmp_path / "run"


# Files that belong together ----------------------------------------------------------------------


def test_all_appear_or_none(tmp_path):
    (tmp_path / "a.json").write_text("old")
    with pytest.raises(InputError), all_or_none():
        write_json(tmp_path / "a.json", {})
        assert (tmp_path / "a.json").read_text() == "old"
        with all_or_none():
            write_json(tmp_path / "b.json", {})
        write_json(tmp_path / "a.json" / "c.json", {})
    assert os.listdir(tmp_path) == ["a.json"] and (tmp_path / "a.json").read_text() == "old"
    with all_or_none():
        write_json(tmp_path / "a.json", {"x": 1})
        write_json(tmp_path / "b.json", {})
        assert not (tmp_path / "b.json").exists()
    assert sorted(os.listdir(tmp_path)) == ["a.json", "b.json"]
    write_json(tmp_path / "c.json", {})  # outside again: at once
    assert (tmp_path / "c.json").exists()


def test_a_name_as_long_as_a_name_may_be(tmp_path):
    path = tmp_path / ("é" * 122 + ".json")  # 249 of 255 bytes
    write_json(path, {})
    assert os.listdir(tmp_path) == [path.name]


# Results that are read back ----------------------------------------------------------------------


def test_only_plain_files_are_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"12345")
    assert read_plain(path, 5) == b"12345"
    with pytest.raises(InputError, match="larger than 0 MB"):
        read_plain(path, 4)
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(2**40)
    refused = {
        "link": "a link",
        "pipe": "no plain file",
        "sparse": "larger",
        "no": "cannot be read",
    }
    for name, words in refused.items():
        with pytest.raises(InputError, match=words):
            read_plain(tmp_path / name, 2**20)


# Temporary files ---------------------------------------------------------------------------------


def test_temporary_files_have_a_folder_of_the_run_s(tmp_path, monkeypatch):
    """Its workers' have, too; locks stay where all runs look for them."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("TMPDIR", raising=False)
    lock = user_temp_dir()
    with own_temporary_files() as folder:
        assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
        assert tempfile.mkdtemp().startswith(str(folder)) and user_temp_dir() == lock
        code = "import tempfile; from badnet_defense.io.files import user_temp_dir; "
        code += "print(tempfile.mkdtemp(), user_temp_dir())"
        told = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split()
        assert told[0].startswith(str(folder)) and told[1] == str(lock)
    assert "TMPDIR" not in os.environ and tempfile.gettempdir() == str(tmp_path)


@pytest.mark.parametrize("end", ["", "raise KeyboardInterrupt", "raise SystemExit(3)"])
def test_temporary_files_of_a_run_are_gone_with_it(end, tmp_path):
    """After what others remove at the end, which must not fail."""
    code = (
        "import atexit, shutil, tempfile\n"
        "from badnet_defense.io.files import own_temporary_files\n"
        "with own_temporary_files():\n"
        "    tempfile.mkdtemp(); atexit.register(shutil.rmtree, tempfile.mkdtemp())\n"
        f"    {end}"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=False
    )
    assert os.listdir(tmp_path) == [] and b"atexit" not in done.stderr


def test_temporary_files_of_a_killed_run_are_removed_by_the_next(tmp_path):
    code = (
        "import os, tempfile; from badnet_defense.io.files import own_temporary_files\n"
        "with own_temporary_files(): tempfile.mkdtemp(); os.kill(os.getpid(), 9)"
    )
    settings = {"cwd": ROOT, "env": {**os.environ, "TMPDIR": str(tmp_path)}, "check": False}
    subprocess.run([sys.executable, "-c", code], **settings)
    (left,) = os.listdir(tmp_path)
    (tmp_path / "theirs").mkdir()
    (tmp_path / left.replace(left.split(".")[-2], "999999999")).symlink_to(tmp_path / "theirs")
    subprocess.run([sys.executable, "-c", code.partition("; os.kill")[0]], **settings)
    assert left not in os.listdir(tmp_path) and (tmp_path / "theirs").is_dir()
