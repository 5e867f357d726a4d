"""Plain values and arrays through a pipe: what a process that nobody trusts hands back.

Not pickle, which would run code of the sender's: a JSON head, then the arrays' bytes.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from badnet_defense.errors import ReaderError

MAX_HEAD = 64 * 2**20
DTYPES = ("uint8", "float32", "int64")
MAX_AXES = 4
_LENGTH = struct.Struct("<Q")
_PIECE = 2**20


def write_frame(fd: int, plain: Any, arrays: Sequence[np.ndarray]) -> None:
    """Writes what `json.dumps` takes, and arrays of `DTYPES`, to a file descriptor."""
    about = [[str(array.dtype), list(array.shape)] for array in arrays]
    head = json.dumps({"plain": plain, "arrays": about}).encode()
    _write(fd, _LENGTH.pack(len(head)) + head)
    for array in arrays:
        _write(fd, np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def _write(fd: int, content: Any) -> None:
    content = memoryview(content)
    while len(content):
        content = content[os.write(fd, content[:_PIECE]) :]


def read_frame(fd: int, most: int) -> tuple[Any, list[np.ndarray]]:
    """(plain, arrays) that `write_frame` wrote, believing none of it.

    Args:
        fd: file descriptor.
        most: bytes that all arrays may take together.

    Raises:
        ReaderError: it ends too early, is no frame, or claims more than `most`.
    """
    (length,) = _LENGTH.unpack(_read(fd, _LENGTH.size))
    if length > MAX_HEAD:
        raise ReaderError(f"its reader claims {length:,} bytes of description.")
    text = bytes(_read(fd, length))
    try:
        head = json.loads(text)
        plain, shapes = head["plain"], [(name, tuple(shape)) for name, shape in head["arrays"]]
        right = all(
            name in DTYPES
            and len(shape) <= MAX_AXES
            and all(type(size) is int and 0 <= size <= most for size in shape)
            for name, shape in shapes
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        right = False
    if not right:
        raise ReaderError("the file reader returned an invalid reply.")
    if sum(math.prod(shape) * np.dtype(name).itemsize for name, shape in shapes) > most:
        raise ReaderError(f"its reader hands back more than {most:,} bytes.")
    return plain, [_array(fd, name, shape) for name, shape in shapes]


def _array(fd: int, name: str, shape: Any) -> np.ndarray:
    try:
        array = np.empty(shape, name)
    except MemoryError:
        raise ReaderError("it is too large for this machine's memory.") from None
    _fill(fd, array.reshape(-1).view(np.uint8).data)
    return array


def _read(fd: int, count: int) -> bytearray:
    content = bytearray(count)
    _fill(fd, memoryview(content))
    return content


def _fill(fd: int, place: memoryview) -> None:
    while len(place):
        got = os.readv(fd, [place[:_PIECE]])
        if not got:
            raise ReaderError("its reader ended too early.")
        place = place[got:]
