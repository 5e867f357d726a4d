"""A crash of the libraries that compute is one sentence and an exit code, not a dead process.

TensorFlow's C++ ends its process where it meets what it did not expect (SIGABRT), and no Python
code of that process comes to speak again. So a command works in a child, and its parent tells how
the child ended. Input, output, exit code and Ctrl-C pass through. The parent also ends a child that
takes more than its share of the machine's memory, whatever the model makes the libraries do.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import FrameType

CRASHES = ("SIGABRT", "SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGKILL")
_PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP")
_AT_ONCE = 1.0
"""Seconds within which a second interrupt is the same one."""
_LOOK = 0.5
"""Seconds between two looks at the memory that the child takes."""
_PR_SET_PDEATHSIG = 1


def watch(code: int, memory: int) -> None:
    """Goes on in a child of this process, which itself only waits, tells of a crash and ends.

    Only where this process is a command of this project, started as such: another program that
    calls one in its own process is not doubled.

    Args:
        code: of the exit after a crash.
        memory: bytes that the child and its own children may take together.
    """
    if not (os.name == "posix" and _is_command()):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        _end_with_parent()
        _interrupt_once()
        return
    for name in _PASSED_ON:
        signal.signal(getattr(signal, name), lambda number, _: _send(child, number))
    over = threading.Event()
    threading.Thread(target=_watch_memory, args=(child, memory, over), daemon=True).start()
    _, status = os.waitpid(child, 0)
    _end_as(os.waitstatus_to_exitcode(status), code, memory if over.is_set() else None)


def _watch_memory(child: int, memory: int, over: threading.Event) -> None:
    """Kills the child once it takes more than `memory` bytes (Linux), and sets `over`."""
    while (taken := _taken(child)) is not None:
        if taken > memory:
            over.set()
            _send(child, signal.SIGKILL)
            return
        time.sleep(_LOOK)


def _taken(process: int) -> int | None:
    """Bytes of their own that a process and its children have in memory; None where it is gone."""
    try:
        _, resident, shared, *_ = map(int, Path(f"/proc/{process}/statm").read_text().split())
        own = (resident - shared) * os.sysconf("SC_PAGESIZE")
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except (OSError, ValueError):
        return None
    return own + sum(_taken(int(child)) or 0 for child in children)


def _is_command() -> bool:
    """True where the interpreter was started with this project's script or module."""
    given, name = sys.orig_argv[1:], Path(sys.argv[0]).name
    as_module = ("-m", "badnet_defense") in pairwise(given)
    ours = name.endswith(".py") or name == "badnet-defense"
    return as_module or any(Path(one).name == name and ours for one in given[:3])


def _end_as(ended: int, code: int, over: int | None) -> None:
    """Ends this process as its child did; a crash, or more memory than `over` bytes, is told."""
    if ended >= 0:
        os._exit(ended)
    name = signal.Signals(-ended).name
    if name in CRASHES:
        with contextlib.suppress(OSError):
            os.write(2, f"\n{_sentence(name, over)}\n".encode())
        os._exit(code)
    signal.signal(-ended, signal.SIG_DFL)
    os.kill(os.getpid(), -ended)
    os._exit(128 - ended)


def _sentence(name: str, over: int | None = None) -> str:
    if over is not None:
        return (
            f"The process that computes took more than {over >> 20} MB, three quarters of this "
            "machine's memory, and was stopped; nothing half-written is left. Give fewer images, "
            "or work on this model with more memory."
        )
    if name == "SIGKILL":
        return (
            "The process that computes was killed (SIGKILL), most likely because the machine's "
            "memory is used up; nothing half-written is left. Free memory, or give fewer images."
        )
    return (
        f"The process that computes crashed ({name}) inside the libraries it uses; nothing "
        "half-written is left. Run the command again with TF_ENABLE_ONEDNN_OPTS=0 in the "
        "environment, which goes around known faults of TensorFlow; if that does not help, this "
        "model cannot be worked on here."
    )


def _interrupt_once() -> None:
    """A terminal's Ctrl-C comes twice, from it and from the parent: the second says nothing new."""
    last = -_AT_ONCE

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if last - before >= _AT_ONCE:
            signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as by nohup
        signal.signal(signal.SIGINT, interrupt)
        _handled.append(interrupt)


_handled: list[Callable[[int, FrameType | None], None]] = []
"""The handler of `_interrupt_once`, in a child that has it."""


def stopping() -> None:
    """Lets no later interrupt end this child in another way than the first one does.

    Python takes its handlers back while it ends, so that a signal which comes twice would kill it.
    """
    if _handled:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _send(child: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)


def _end_with_parent() -> None:
    """Lets this process end when its parent is killed (Linux; elsewhere it works on to its end)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
