"""The process that forks a reader for each file; see `badnet_defense.sandbox.client`."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import signal
import socket
from typing import Any, NoReturn

import numpy as np
from PIL import Image

from badnet_defense.errors import InputError
from badnet_defense.sandbox.limited import address_space_taken
from badnet_defense.sandbox.limits import set_limits
from badnet_defense.sandbox.pipe import write_frame
from badnet_defense.sandbox.tasks import TASKS

MAX_REQUEST = 2**16
MAX_FILES = 64


def serve(number: int) -> None:
    """Forks a reader for each request on the Unix socket of this file descriptor, until it closes.

    Each request is a JSON text and the pipe that the reader answers into; its process' number and
    then its exit status go back by the socket. Nothing of the reader's answer is looked at here.
    """
    Image.preinit()  # once here, not in each reader
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    with socket.socket(fileno=number) as parent:
        while True:
            message, pipes, _, _ = socket.recv_fds(parent, MAX_REQUEST, 1)
            if not message:
                return
            reader = os.fork()
            if not reader:
                _become_reader(parent, json.loads(message), pipes[0])
            os.close(pipes[0])
            parent.send(json.dumps(reader).encode())
            _, status = os.waitpid(reader, 0)
            parent.send(json.dumps(os.waitstatus_to_exitcode(status)).encode())


def _become_reader(parent: socket.socket, asked: dict[str, Any], pipe: int) -> NoReturn:
    """Reads, and ends this process whatever happens."""
    status = 1
    try:
        parent.close()
        read(asked, pipe)
        status = 0
    except BaseException as error:  # noqa: BLE001 the file's doing: one word of it is told, no more
        with contextlib.suppress(BaseException):
            write_frame(pipe, {"error": ["ReaderError", _failed(asked, error)]}, [])
            status = 0
    finally:
        os._exit(status)


def _failed(asked: dict[str, Any], error: BaseException) -> str:
    return f"{asked['path']}: its reader failed ({type(error).__name__}); nothing of it was used."


def read(asked: dict[str, Any], pipe: int) -> None:
    """Does one request under its limits and writes the answer."""
    kept = _Kept()
    logging.getLogger("badnet_defense").addHandler(kept)
    logging.getLogger("badnet_defense").propagate = False
    arrays: list[np.ndarray] = []
    answer: dict[str, Any]
    try:
        os.chdir(asked["folder"])  # the parent's, which may have moved since this process began
        limit(asked["limits"])
        value, arrays = TASKS[asked["task"]](asked["path"], **asked["request"])
        answer = {"value": {**value, "log": kept.messages}}
    except InputError as error:
        answer = {"error": [type(error).__name__, str(error)]}
    except MemoryError:
        most = asked["limits"]["memory"] >> 20
        answer = {
            "error": ["ReaderError", f"{asked['path']}: reading it needs more than {most} MB."]
        }
    with contextlib.suppress(BrokenPipeError):
        write_frame(pipe, answer, arrays)


def limit(limits: dict[str, int]) -> None:
    """Limits this process for good: memory, processor time, no written files, no new processes."""
    set_limits(max_net_size=limits["max_net_size"], isolate=False)
    for name, most in (
        ("RLIMIT_AS", address_space_taken() + limits["memory"]),
        ("RLIMIT_CPU", limits["seconds"]),
        ("RLIMIT_FSIZE", 0),
        ("RLIMIT_NOFILE", MAX_FILES),
        ("RLIMIT_NPROC", 0),
        ("RLIMIT_CORE", 0),
    ):
        kind = getattr(resource, name)
        allowed = resource.getrlimit(kind)[1]
        most = most if allowed == resource.RLIM_INFINITY else min(most, allowed)
        with contextlib.suppress(ValueError, OSError):  # a platform that lacks one keeps the others
            # Past the soft limit on time a signal comes that says so, past the hard one a kill.
            hard = most + 5 if name == "RLIMIT_CPU" else most
            resource.setrlimit(kind, (most, hard if allowed < 0 else min(hard, allowed)))


class _Kept(logging.Handler):
    """Keeps messages for the parent."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
