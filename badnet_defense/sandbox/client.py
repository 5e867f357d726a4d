"""Reads a file in a process of its own: what breaks or takes over the reader stops there.

The libraries that unpack HDF5, zip and images are large C programs, and the files are hostile.
One process is started for a run (`sandbox.server`); it never opens a file itself but forks a
reader for each, which sets limits on memory, processor time and files for itself, reads, and hands
back plain values and arrays. They are checked here again, by the same rules.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from badnet_defense import errors
from badnet_defense.errors import InputError, ReaderError, one_line
from badnet_defense.io.files import stored_size
from badnet_defense.io.listing import read_files
from badnet_defense.sandbox.limits import current
from badnet_defense.sandbox.pipe import read_frame

_log = logging.getLogger("badnet_defense")

MIN_MEMORY = 2**30
SECONDS = 30
"""Of processor time that reading one file may take, and one more for each 2 MB of it."""
WAIT = 4
"""Times that, and a little, a reader may sleep; waiting for a busy machine or disk is no sleep."""
_LOOK = 0.25
"""Seconds between two looks at what a reader does."""
MAX_MESSAGES = 20
_one_at_a_time = threading.Lock()
_ROOT = Path(__file__).resolve().parents[2]
_START = (
    f"import sys; sys.path.insert(0, {str(_ROOT)!r}); "
    "from badnet_defense.sandbox.server import serve; serve(int(sys.argv[1]))"
)


def memory_limit() -> int:
    """Bytes that a reader may take: three eighths of the machine's memory.

    What it hands back is held here, too, while the reader still has it: three quarters in all.
    """
    return max(MIN_MEMORY, _machine_memory() * 3 // 8)


def _machine_memory() -> int:
    """Bytes of this machine, or of this container where that has less."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
        machine = min(machine, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return machine


def seconds_for(path: str | PathLike[str]) -> int:
    """Seconds of processor time that a reader gets for a file or a folder of images."""
    path = Path(path)
    files = read_files(path) if path.is_dir() else [path]
    return SECONDS + sum(stored_size(one) for one in files if one.exists()) // 2**21


def isolated(
    task: str,
    path: str | PathLike[str],
    *,
    memory: int | None = None,
    count: tuple[int, ...] | None = None,
    **request: Any,
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """What a task of `sandbox.server` gives for a file, read in a process of its own.

    Args:
        task: its name.
        path: the file.
        memory: bytes that the reader may take; default: `memory_limit()`.
        count: how many arrays must come, one of these numbers; default: any.
        request: the task's other arguments, as JSON takes them.

    Returns:
        (dict of plain values, arrays), to be checked: the reader may be the attacker's by now.
        `log` among the values lists the reader's messages, which were passed on to the logger.

    Raises:
        InputError: what the task raised, of the same class.
        ReaderError: the reader crashed, ran into a limit or answered nonsense.
    """
    seconds = seconds_for(path)
    limits = {
        "max_net_size": current().max_net_size,
        "memory": memory or memory_limit(),
        "seconds": seconds,
    }
    asked = {"task": task, "path": os.fspath(path), "request": request, "limits": limits}
    with _one_at_a_time:
        answer, failure, status = _exchange({**asked, "folder": _working_folder()}, limits)
    if failure is not None or status != 0:
        raise ReaderError(f"{path}: {_why(status, failure, limits)}")
    plain, arrays = answer
    if isinstance(plain, dict) and "error" in plain:
        raise _error(plain["error"])
    value = plain.get("value") if isinstance(plain, dict) else None
    log = value.get("log") if isinstance(value, dict) else None
    texts = isinstance(log, list) and all(isinstance(one, str) for one in log[:MAX_MESSAGES])
    if not isinstance(value, dict) or not texts or (count and len(arrays) not in count):
        raise ReaderError(f"{path}: the file reader returned an invalid reply.")
    value["log"] = [one_line(one) for one in value["log"][:MAX_MESSAGES]]
    for one in value["log"]:
        _log.warning("%s", one)
    return value, arrays


def _working_folder() -> str:
    """Where relative paths begin; where it was removed, as a Ray worker's may be, none leads on."""
    try:
        return os.getcwd()
    except OSError:
        return os.sep


def _exchange(asked: dict[str, Any], limits: dict[str, int]) -> tuple[Any, Any, Any]:
    """(answer, failure, exit status) of a reader; whatever goes wrong, the next one starts anew."""
    try:
        server = _server()
    except OSError as error:
        told = (
            f"the process that reads files cannot be started ({error}); set_limits(isolate=False) "
        )
        return None, told + "reads them in this one.", None
    read_end: int
    write_end: int | None
    read_end, write_end = os.pipe()
    answer: Any = None
    failure: Any = None
    status: Any = None
    done = threading.Event()
    try:
        socket.send_fds(server, [json.dumps(asked).encode()], [write_end])
        os.close(write_end)
        write_end = None
        reader = json.loads(server.recv(64) or b"null")
        patience = WAIT * (limits["seconds"] + 5)
        threading.Thread(target=_watch, args=(reader, patience, done), daemon=True).start()
        try:
            answer = read_frame(read_end, limits["memory"])
        except ReaderError as error:
            failure = error
        status = json.loads(server.recv(64) or b"null")
        if status is None:
            stop()
    except OSError as error:
        stop()
        failure = f"the process that reads files is gone ({error})."
    except BaseException:
        stop()
        raise
    finally:
        done.set()
        os.close(read_end)
        if write_end is not None:
            os.close(write_end)
    return answer, failure, status


def _watch(reader: int | None, patience: float, done: threading.Event) -> None:
    """Ends all readers where one has slept for too long; one that only waits its turn goes on.

    Its processor time is limited by itself (`sandbox.server.limit`), whatever a clock says: on a
    busy machine a reader may get little of it for long.

    Args:
        reader: number of its process.
        patience: seconds that it may be neither running nor ready to.
        done: an `Event` that ends the watch.
    """
    slept, before = 0.0, None
    while not done.wait(_LOOK):
        state, used = _state(reader)
        if state != "R" and state != "D" and used == before:
            slept += _LOOK
        before = used
        if slept > patience:
            _kill()
            return


def _state(process: int | None) -> tuple[str | None, int | None]:
    """(state, clock ticks of processor time) of a process; (None, None) where nobody tells."""
    try:
        # The name in front, in brackets, may hold anything.
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return words[0], int(words[11]) + int(words[12])
    except (OSError, ValueError, IndexError):
        return None, None


def _why(status: int, failure: Any, limits: dict[str, int]) -> str:
    """One sentence for a reader that did not end well."""
    if status is None and failure is not None and not isinstance(failure, str):
        return "its reader never answered and was stopped, or is gone; nothing of it was used."
    if status == -signal.SIGXCPU:
        return f"reading it took more than {limits['seconds']} seconds; it was stopped."
    if isinstance(status, int) and status < 0:
        return (
            f"reading it crashed the reader ({signal.Signals(-status).name}), or needed more than "
            f"{limits['memory'] >> 20} MB; nothing of it was used."
        )
    return str(failure or "its reader failed.") + " Nothing of it was used."


def _error(told: Any) -> InputError:
    """The project's own error that a reader raised, and no other class."""
    kind, message = told if isinstance(told, list) and len(told) == 2 else ("", "its reader failed")
    raised = getattr(errors, str(kind), None)
    if not (isinstance(raised, type) and issubclass(raised, InputError)):
        raised = InputError
    return raised(str(message))


@cache
def _server() -> socket.socket:
    """The Unix socket of the process that forks readers, which is started now."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with theirs:
        process = subprocess.Popen(
            # -P: modules that lie in the working folder, perhaps beside the suspects, stay there.
            [sys.executable or "", "-P", "-c", _START, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # a group of its own, so that readers end with it
            env=environment,
        )
    _running.append((ours, process))
    return ours


_running: list[tuple[socket.socket, subprocess.Popen]] = []


def start() -> None:
    """Starts the process that forks readers early, beside other slow beginnings."""
    if current().isolate:
        _server()


def stop() -> None:
    """Ends that process and its readers; the next file starts another."""
    _kill()
    _server.cache_clear()
    while _running:
        server, process = _running.pop()
        server.close()
        process.wait()


def _kill() -> None:
    for _, process in _running:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)


def _leave_to_parent() -> None:
    """In a process that was forked from one with a server: that is its parent's, and so is a turn.

    Both would read each other's answers from the one socket.
    """
    global _one_at_a_time
    _one_at_a_time = threading.Lock()
    _server.cache_clear()
    while _running:
        server, process = _running.pop()
        server.close()
        process.returncode = 0  # nobody here waits for it


atexit.register(stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
