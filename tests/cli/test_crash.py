"""How a command ends is told by its parent: crashes in a sentence, all else as it is."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from badnet_defense.cli import crash

ROOT = Path(__file__).resolve().parents[2]
START = "import os, signal, sys, time\nfrom badnet_defense.cli import console\n"


def command(folder, body, before=""):
    """A running command whose `main` is `body`; `before` stands in front of it."""
    script = folder / "work.py"
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    script.write_text(f"{START}{before}def main():\n{lines}\nconsole.run(main)\n")
    return subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background may have them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.parametrize(
    "name, told", [("SIGABRT", "TF_ENABLE_ONEDNN_OPTS=0"), ("SIGKILL", "memory is used up")]
)
def test_a_crash_is_one_sentence_and_exit_code_3(tmp_path, name, told):
    running = command(tmp_path, f"os.kill(os.getpid(), signal.{name})")
    out, err = running.communicate(timeout=60)
    assert running.returncode == 3 and out == ""
    assert name in err and told in err and len(err.strip().splitlines()) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_command_that_takes_too_much_memory_is_stopped_in_one_sentence(tmp_path):
    taken = "import numpy\nmore = numpy.ones(2**26)\ntime.sleep(20)\nprint('went on')"
    running = command(tmp_path, taken, before="console.isolation.memory_limit = lambda: 2**27\n")
    out, err = running.communicate(timeout=60)
    assert running.returncode == 3 and out == ""
    assert "took more than 256 MB" in err and len(err.strip().splitlines()) == 1


def test_the_memory_of_a_process_and_its_children_is_counted():
    code = "import time; held = bytearray(2**26); print('there', flush=True); time.sleep(50)"
    before = crash._taken(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        child.stdout.readline()
        assert 2**26 <= crash._taken(child.pid) < 2**28
        assert crash._taken(os.getpid()) >= before + 2**25
    finally:
        child.kill()
        child.wait()
    assert crash._taken(child.pid) is None


def test_output_input_and_exit_code_pass_through(tmp_path):
    running = command(tmp_path, "print(input())\nprint('told', file=sys.stderr)\nreturn 1")
    out, err = running.communicate("asked\n", timeout=60)
    assert (running.returncode, out, err) == (1, "asked\n", "told\n")


@pytest.mark.parametrize(
    "name, whole_group, code",
    [("SIGINT", True, 130), ("SIGINT", False, 130), ("SIGTERM", False, -signal.SIGTERM)],
)
def test_stopping_signals_reach_the_work(tmp_path, name, whole_group, code):
    running = command(tmp_path, "print('there', flush=True)\ntime.sleep(50)")
    assert running.stdout.readline() == "there\n"
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    for process in [running.pid, *map(int, children)]:  # the whole group, as a terminal does
        if whole_group or process == running.pid:
            os.kill(process, getattr(signal, name))
    _, err = running.communicate(timeout=60)
    assert running.returncode == code
    assert name != "SIGINT" or "stopped" in err


def test_the_work_ends_where_its_parent_is_killed(tmp_path):
    running = command(tmp_path, "print(os.getpid(), flush=True)\ntime.sleep(50)")
    worker = int(running.stdout.readline())
    assert worker != running.pid
    running.kill()
    running.wait(timeout=60)
    for _ in range(100):
        stat = Path(f"/proc/{worker}/stat")
        if not stat.exists() or stat.read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the work goes on without its parent")


def test_another_programs_process_is_not_doubled():
    code = f"{START}sys.exit(console.run(lambda: print(os.getpid() == own)))"
    done = subprocess.run(
        [sys.executable, "-c", f"import os\nown = os.getpid()\n{code}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "True\n"
