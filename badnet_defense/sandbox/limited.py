"""Computes in a process of its own, with limits on memory and processor time.

For what a stranger's net makes NumPy do: the budget at its reading bounds it, and this holds where
the budget is wrong. The process is forked from this one, so nothing is read again.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

import numpy as np

from badnet_defense.errors import ReaderError
from badnet_defense.sandbox.limits import current, supported
from badnet_defense.sandbox.pipe import read_frame, write_frame

_NO_MEMORY = 3


def limited(work: Callable[[], np.ndarray], *, memory: int, seconds: int, doing: str) -> np.ndarray:
    """What `work()` gives, an `int64` array, computed under limits.

    Args:
        work: takes nothing, gives an array of `data.frames.DTYPES`.
        memory: bytes that it may take beside what this process has.
        seconds: of processor time that it may take.
        doing: what it does, for the message.

    Raises:
        ReaderError: it ran into a limit or crashed.
    """
    # A process with TensorFlow's threads cannot be forked; there is none where NumPy answers.
    if not (current().isolate and supported()) or "tensorflow" in sys.modules:
        return work()
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.close(read_end)
        _compute(work, write_end, memory, seconds)
    os.close(write_end)
    try:
        with contextlib.suppress(ReaderError):
            _, (array,) = read_frame(read_end, memory)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.close(read_end)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 0:
        return array
    raise ReaderError(f"{doing} {_why(status, memory, seconds)}")


def _compute(work: Callable[[], np.ndarray], pipe: int, memory: int, seconds: int) -> NoReturn:
    """Does the work and ends this process, whatever happens."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        most = address_space_taken() + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        write_frame(pipe, {}, [work()])
        status = 0
    except MemoryError:
        status = _NO_MEMORY
    finally:
        os._exit(status)


def address_space_taken() -> int:
    """Bytes of address space that this process has already."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _why(status: int, memory: int, seconds: int) -> str:
    if status == -signal.SIGXCPU:
        return f"takes more than {seconds} seconds of processor time; it was stopped."
    if status == _NO_MEMORY:
        return f"takes more than {memory >> 20} MB; it was stopped."
    name = signal.Signals(-status).name if status < 0 else f"exit code {status}"
    return f"ended the process that does it ({name})."
