"""Result files: readable JSON with what made it, written whole or not at all."""

import hashlib
import json
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from badnet_defense.errors import InputError
from badnet_defense.io import atomic_write, data_sha256, file_sha256
from badnet_defense.io.records import provenance, write_json


def test_json_is_plain_and_reads_back(tmp_path):
    path = tmp_path / "new" / "result.json"
    result = {
        "accuracy": np.float64(0.1),
        "interval": (np.float64(0.25), np.float64(1e-9)),
        "curve": np.array([0.5, 0.25, 0]),
        "removed": np.int64(3),
        "done": np.bool_(True),
        "nothing": None,
        "empty": [],
        "file": Path("data") / "é.h5",
        "text": "[ 1, 2 ]",
        "layers": ["conv_1", "conv_2"],
    }
    write_json(path, result)
    assert json.loads(path.read_text("utf-8")) == {
        **{name: result[name] for name in ("nothing", "empty", "text", "layers")},
        "accuracy": 0.1,
        "interval": [0.25, 1e-9],
        "curve": [0.5, 0.25, 0],
        "removed": 3,
        "done": True,
        "file": str(Path("data") / "é.h5"),
    }
    assert '  "interval": [0.25, 1e-09],\n' in path.read_text("utf-8")
    assert '"accuracy": 0.1,\n' in path.read_text("utf-8")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_json_cannot_hold_leaves_the_old_file(tmp_path, value):
    path = tmp_path / "result.json"
    path.write_text("old")
    with pytest.raises((ValueError, TypeError)):
        write_json(path, {"accuracy": value})
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_written_are_refused(tmp_path):
    with pytest.raises(InputError) as caught:
        write_json(tmp_path, {})
    assert str(caught.value).startswith(f"{tmp_path}: this is a folder, expected the name")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught:
        write_json(tmp_path / "file" / "result.json", {})
    assert "file/result.json: cannot be written" in caught.value.args[0]


def test_replace_when_done_keeps_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "net.guard.keras"
    path.write_text("old")
    with atomic_write(path) as partial:
        partial.write_text("new")
        assert partial.parent == tmp_path
        assert partial.suffix == ".keras"
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_digests_by_hand(tmp_path):
    (tmp_path / "set" / "1").mkdir(parents=True)
    (tmp_path / "set" / "1" / "a.png").write_bytes(b"abc")
    (tmp_path / "set" / "0.png").write_bytes(b"")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert file_sha256(tmp_path / "set" / "1" / "a.png") == abc
    assert data_sha256(tmp_path / "set" / "1" / "a.png") == abc
    lines = f"{empty}  0.png\n{abc}  1/a.png\n"
    assert data_sha256(tmp_path / "set") == hashlib.sha256(lines.encode()).hexdigest()
    with pytest.raises(InputError, match=r"absent: no such file, expected a file"):
        file_sha256(tmp_path / "absent")


def test_provenance_names_files_versions_and_run(tmp_path):
    net, clean = tmp_path / "net.h5", tmp_path / "clean.h5"
    net.write_bytes(b"net")
    clean.write_bytes(b"clean")
    data = {"clean_test": clean, "poisoned": None}
    made = provenance(net_path=net, data_paths=data, classes=1283, seed=4, seconds=12.3456)
    assert made["schema"] == 1
    assert made["net"] == {"file": str(net), "sha256": hashlib.sha256(b"net").hexdigest()}
    digest = hashlib.sha256(b"clean").hexdigest()
    assert made["data"] == {"clean_test": {"file": str(clean), "sha256": digest}}
    assert (made["classes"], made["seed"], made["seconds"]) == (1283, 4, 12.3)
    versions = made["versions"]
    assert set(versions) == {"python", "tensorflow", "keras", "numpy", "badnet_defense"}
    assert versions["python"] == platform.python_version()
    assert versions["numpy"] == np.__version__
    with pytest.raises(InputError, match="no such file"):
        provenance(net_path=tmp_path / "absent.h5", data_paths={}, classes=10, seed=0, seconds=0)


def test_reading_and_measuring_load_no_slow_package():
    modules = "badnet_defense.io, badnet_defense.evaluation.metrics, badnet_defense.io.records"
    code = (
        f"import sys, {modules}, badnet_defense.report\n"
        "slow = {'tensorflow', 'keras', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
