"""Makes NumPy round as TensorFlow does: numbers too small for a normal `float32` are zero.

TensorFlow tells the processor to take such denormal numbers for zero, in what goes into each
operation and in what comes out, also between the products of one sum. A net whose weights lie
among them would answer otherwise in NumPy, which leaves the processor as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import platform
import sys
from collections.abc import Iterator
from functools import cache

import numpy as np

SMALLEST = np.finfo(np.float32).tiny
"""The smallest normal `float32`."""
# Where glibc's fenv_t keeps the register, and its bits "results" and "inputs below count as 0".
_REGISTERS = {"x86_64": (28, 0x8040), "aarch64": (0, 1 << 24)}
_ROOM = 64


def flushed(values: np.ndarray) -> np.ndarray:
    """`float32` values with those too small for a normal number as zero; others unchanged."""
    small = np.abs(values) < SMALLEST
    if not small.any():
        return values
    return np.where(small, np.float32(0), values)


@contextlib.contextmanager
def flushing() -> Iterator[None]:
    """The processor itself flushes inside, where it can be told to; else only `flushed` does.

    It holds for this thread. Threads of a linear-algebra library that began earlier are not
    reached; the process that answers images has none.
    """
    library, register = _library(), _REGISTERS.get(platform.machine())
    if library is None or register is None:
        yield
        return
    place, bits = register
    before = (ctypes.c_ubyte * _ROOM)()
    library.fegetenv(before)
    inside = bytearray(before)
    word = int.from_bytes(inside[place : place + 4], sys.byteorder) | bits
    inside[place : place + 4] = word.to_bytes(4, sys.byteorder)
    library.fesetenv((ctypes.c_ubyte * _ROOM)(*inside))
    try:
        yield
    finally:
        library.fesetenv(before)


@cache
def _library() -> ctypes.CDLL | None:
    """The C library of a Linux system with glibc, or None."""
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return None
    try:
        library = ctypes.CDLL(ctypes.util.find_library("m") or "libm.so.6")
    except OSError:
        return None
    return library if hasattr(library, "fegetenv") and hasattr(library, "fesetenv") else None
