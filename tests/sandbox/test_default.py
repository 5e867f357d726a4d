"""Files are read in a process of their own without being asked, wherever Python runs."""

import os
import subprocess
import sys
import threading

import pytest
from hostile_nets import same_net
from small_project import ROOT

from badnet_defense.errors import ReaderError
from badnet_defense.nets import read_net
from badnet_defense.sandbox import client, limits

BODY = """
import sys
from badnet_defense.nets import read_net
from badnet_defense.sandbox import client
print(read_net(sys.argv[1]).classes, len(client._running))
"""


def test_it_is_the_default_where_the_platform_can(h5, monkeypatch):
    assert limits.Limits().isolate == limits.supported()
    monkeypatch.setattr("badnet_defense.nets.reader.isolated", refuse_to_isolate)
    with pytest.raises(ReaderError, match="asked"):
        read_net(h5)


def refuse_to_isolate(*_, **__):
    raise ReaderError("asked")


@pytest.mark.skipif(not limits.supported(), reason="this platform reads in the same process")
@pytest.mark.parametrize("how", ["script", "command", "stdin"])
def test_no_guard_of_the_main_module_is_needed(how, h5, tmp_path):
    script = tmp_path / "plain.py"
    script.write_text(BODY)
    way = {"script": [script, h5], "command": ["-c", BODY, h5], "stdin": ["-", h5]}[how]
    done = subprocess.run(
        [sys.executable, *map(str, way)],
        input=BODY,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "5 1\n", "")


@pytest.mark.skipif(not limits.supported(), reason="this platform reads in the same process")
def test_the_opt_out_starts_no_process(h5, with_limits):
    client.stop()
    with_limits(isolate=False)
    assert read_net(h5).classes == 5 and not client._running


@pytest.mark.skipif(not limits.supported(), reason="this platform reads in the same process")
def test_a_forked_process_reads_by_a_server_of_its_own(tmp_path, h5):
    """The one it inherits is its parent's: both would take each other's answers."""
    # Forked from a process without TensorFlow's threads.
    script = tmp_path / "forks.py"
    script.write_text(
        "import os, sys\n"
        "from badnet_defense.nets import read_net\n"
        "from badnet_defense.sandbox import client\n"
        "read_net(sys.argv[1])\n"
        "client._one_at_a_time.acquire()  # as if another thread were reading\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    assert read_net(sys.argv[1]).classes == 5\n"
        "    client.stop()\n"
        "    os._exit(7)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7\n"
        "client._one_at_a_time.release()\n"
        "((_, process),) = client._running\n"
        "assert process.poll() is None  # the child's end did not end it\n"
        "print(read_net(sys.argv[1]).classes)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(h5)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.returncode) == ("5\n", 0), done.stderr


@pytest.mark.skipif(not limits.supported(), reason="this platform reads in the same process")
def test_threads_read_one_after_the_other(h5, with_limits):
    expected, found = read_net(h5), []
    threads = [threading.Thread(target=lambda: found.append(read_net(h5))) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(found) == 4 and all(same_net(one, expected) for one in found)


@pytest.mark.skipif(not limits.supported(), reason="this platform reads in the same process")
@pytest.mark.parametrize("python", [None, "/nowhere/python"])
def test_a_process_that_cannot_be_started_is_one_sentence(python, h5, monkeypatch, with_limits):
    client.stop()
    monkeypatch.setattr(sys, "executable", python)
    with pytest.raises(ReaderError, match=r"cannot be started .*set_limits\(isolate=False\)"):
        read_net(h5)


def test_a_working_folder_that_was_removed(h5, tmp_path, monkeypatch):
    """As those of Ray's workers are, where files are named by absolute paths."""
    client.stop()
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert read_net(h5).classes == 5
