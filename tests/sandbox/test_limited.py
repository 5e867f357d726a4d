"""Computing in a process of its own: limits on memory and time, and what comes back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import os, sys, numpy as np
from badnet_defense.sandbox.limited import limited
from badnet_defense.sandbox.limits import set_limits
set_limits(isolate=True)
own = os.getpid()
WORK = {
    "answers": lambda: np.array([3, os.getpid() != own]),
    "memory": lambda: np.ones((2**12, 2**20)).astype(np.int64),
    "time": lambda: any(iter(int, 1)),
    "crash": lambda: os.kill(os.getpid(), 6),
    "error": lambda: {}["nothing"],
}
try:
    print(limited(WORK[sys.argv[1]], memory=2**29, seconds=1, doing="answering").tolist())
except ValueError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    "work, told",
    [
        ("answers", "[3, 1]"),
        ("memory", "ReaderError answering takes more than 512 MB; it was stopped."),
        ("time", "ReaderError answering takes more than 1 seconds of processor time"),
        ("crash", "ReaderError answering ended the process that does it (SIGABRT)."),
        ("error", "ReaderError answering ended the process that does it (exit code 1)."),
    ],
)
def test_work_is_done_under_limits(work, told):
    done = subprocess.run(
        [sys.executable, "-c", CODE, work],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith(told), done.stderr
    assert done.stderr == ""
