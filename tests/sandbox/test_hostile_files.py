"""Published attacks on whoever loads a net: refused, each by its own error, with nothing done."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_files import ATTACKS, h5_net, keras_net

from badnet_defense.errors import ReaderError
from badnet_defense.nets import read_net
from badnet_defense.sandbox import client

ROOT = Path(__file__).resolve().parents[2]
WATCHED = """
import json, resource, sys, time
from badnet_defense.errors import InputError
from badnet_defense.nets import read_net
from badnet_defense.sandbox.limits import set_limits
set_limits(isolate=len(sys.argv) > 2)  # in this process, which is watched
done, path = [], sys.argv[1]
ACTS = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.mkdir", "os.remove",
        "os.rename", "os.link", "os.symlink", "socket.", "urllib.", "pickle.", "ctypes.", "shutil.")
def watch(event, details):
    own = event == "open" and str(details[0]).startswith((path, sys.base_prefix, sys.prefix))
    if event.startswith(ACTS) or event == "open" and not own:
        done.append([event, str(details)[:200]])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sys.addaudithook(watch)
start = time.process_time()
try:
    read_net(path)
    said = ["accepted", ""]
except InputError as error:
    said = [type(error).__name__, str(error)]
taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps({"said": said, "done": done, "taken": taken / 1024,
                  "seconds": time.process_time() - start}))
"""
MOST_MEMORY = 200
"""MB that refusing may take; the largest honest piece of these files is a megabyte."""


def watched(path, *isolate):
    """What reading a file in a process of its own did, took and said."""
    run = subprocess.run(
        [sys.executable, "-c", WATCHED, str(path), *isolate],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return json.loads(run.stdout)


@pytest.mark.parametrize("name", [one for one in ATTACKS if one != "endless_heap"])
def test_refused_with_nothing_done(name, tmp_path):
    marker = tmp_path / "marker"
    path = ATTACKS[name].write(tmp_path, marker)
    before = sorted(tmp_path.rglob("*"))
    found = watched(path)
    kind, message = found["said"]
    expected = ATTACKS[name].error
    assert kind == expected.__name__, message
    assert message.startswith(str(path)) and message.isprintable() and len(message) < 700
    assert found["done"] == []
    assert found["taken"] < MOST_MEMORY and found["seconds"] < 20
    assert not marker.exists() and sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("write", [h5_net, keras_net])
def test_what_the_attacks_are_made_of_is_a_good_net(write, tmp_path):
    found = watched(write(tmp_path))
    assert found["said"] == ["accepted", ""] and found["done"] == []


@pytest.mark.parametrize(
    "name", ["lambda_in_h5", "external_link", "claimed_weight", "many_members"]
)
def test_refused_by_a_reader_too(name, tmp_path, with_limits):
    path = ATTACKS[name].write(tmp_path, tmp_path / "marker")
    with_limits(isolate=True)
    with pytest.raises(ATTACKS[name].error) as caught:
        read_net(path)
    assert not isinstance(caught.value, ReaderError)
    assert not (tmp_path / "marker").exists()


def test_what_the_library_walks_for_ever_ends_at_the_reader_s_limit(tmp_path, monkeypatch):
    """Reading in a process of its own is the default: nothing was set here."""
    monkeypatch.setattr(client, "SECONDS", 1)
    path = ATTACKS["endless_heap"].write(tmp_path, tmp_path / "marker")
    with pytest.raises(ReaderError) as caught:
        read_net(path)
    assert str(caught.value) == f"{path}: reading it took more than 1 seconds; it was stopped."
