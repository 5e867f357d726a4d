"""A crash of the libraries that compute is one sentence and an exit code, not a dead process.

TensorFlow's C++ ends its process where it meets what it did not expect (SIGABRT), and no Python
code of that process comes to speak again. So a command works in a child, and its parent tells how
the child ended. Input, output, exit code and Ctrl-C pass through.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path

CRASHES = ("SIGABRT", "SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGKILL")
_PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP")
_AT_ONCE = 1.0
"""Seconds within which a second interrupt is the same one."""
_PR_SET_PDEATHSIG = 1


def watch(code):
    """Goes on in a child of this process, which itself only waits, tells of a crash and ends.

    Only where this process is a command of this project, started as such: another program that
    calls one in its own process is not doubled.

    Args:
        code: of the exit after a crash.
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
    _, status = os.waitpid(child, 0)
    _end_as(os.waitstatus_to_exitcode(status), code)


def _is_command():
    """True where the interpreter was started with this project's script or module."""
    given, name = sys.orig_argv[1:], Path(sys.argv[0]).name
    as_module = ("-m", "badnet_defense") in pairwise(given)
    return as_module or any(Path(one).name == name and name.endswith(".py") for one in given[:3])


def _end_as(ended, code):
    """Ends this process as its child did; a crash is told."""
    if ended >= 0:
        os._exit(ended)
    name = signal.Signals(-ended).name
    if name in CRASHES:
        with contextlib.suppress(OSError):
            os.write(2, f"\n{_sentence(name)}\n".encode())
        os._exit(code)
    signal.signal(-ended, signal.SIG_DFL)
    os.kill(os.getpid(), -ended)
    os._exit(128 - ended)


def _sentence(name):
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


def _interrupt_once():
    """A terminal's Ctrl-C comes twice, from it and from the parent: the second says nothing new."""
    last = -_AT_ONCE

    def interrupt(number, frame):
        nonlocal last
        before, last = last, time.monotonic()
        if last - before >= _AT_ONCE:
            signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as by nohup
        signal.signal(signal.SIGINT, interrupt)


def _send(child, number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)


def _end_with_parent():
    """Lets this process end when its parent is killed (Linux; elsewhere it works on to its end)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
