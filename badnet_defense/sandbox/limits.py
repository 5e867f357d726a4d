"""How large a file may be, and whether it is read in a process of its own."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, replace
from typing import Any


def supported() -> bool:
    """True where the platform has what isolation needs (POSIX: fork, rlimits, passing pipes)."""
    return os.name == "posix" and hasattr(os, "fork") and hasattr(socket, "send_fds")


@dataclass(frozen=True)
class Limits:
    """What reading may take.

    Attributes:
        max_net_size: bytes of a net's file, and of what it unpacks to.
        isolate: True reads files in a child process with limits on memory, time and files;
            the default wherever that is `supported`.
    """

    max_net_size: int = 2 * 2**30
    isolate: bool = supported()


_in_force = [Limits()]


def current() -> Limits:
    """The `Limits` in force in this process."""
    return _in_force[-1]


def set_limits(**changes: Any) -> None:
    """Changes the `Limits` in force, as the scripts' options do."""
    _in_force[-1] = replace(current(), **changes)
