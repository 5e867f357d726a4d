"""Which images of a poisoned set truly carry a trigger: True or False for each, from a file."""

from __future__ import annotations

import csv
import json
import pickletools
import re
from os import PathLike
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from badnet_defense.errors import InputError, ReaderError
from badnet_defense.io.files import atomic_write, require_file
from badnet_defense.sandbox.client import isolated
from badnet_defense.sandbox.limits import current

_FORMATS = ".npy, .csv, .json or .pkl"
_WORDS = {"true": True, "false": False}
_NUMBER = re.compile(r"\+?([01])(\.0*)?([eE][+-]?0+)?")
"""0 or 1 as a text, also as NumPy writes it; Python's own reader takes `0_1` for a 1, too."""
_PICKLE_FRAME = {"PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"}
_PICKLE_PUSHES = dict.fromkeys(
    ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"), lambda n: n
)
_PICKLE_PUSHES |= {
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_LIST": lambda _: [],
}
_BROKEN = (
    *(ValueError, OSError, RecursionError, csv.Error),
    *(SyntaxError, TokenError, EOFError, TypeError, OverflowError, MemoryError, KeyError),
    *(IndexError, AttributeError),
)
"""What the readers raise; the second line is NumPy's, for the head of an array, the third
are of pickles that take from an empty stack or from no list."""


def read_trigger_labels(path: str | PathLike[str], count: int) -> np.ndarray:
    """True where an image carries a trigger, False where it is clean.

    No format can run code: of a pickle only a plain list of truth values is read, by listing its
    opcodes with `pickletools`, without ever unpickling it.

    Args:
        path: `.npy` (n,), `.csv` (one value a line, or one row; a heading is skipped), `.json`
            (a list) or `.pkl` (a pickled list), of True/False or 1/0.
        count: the number of images n that the labels belong to.

    Returns:
        (n,) `bool`.

    Raises:
        InputError: no such file, another format, other values, or another length.

    Examples:
        >>> import pathlib, tempfile
        >>> from badnet_defense.io import read_trigger_labels
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "labels.json")
        ...     _ = path.write_text("[true, 0]")
        ...     labels = read_trigger_labels(path, 2)
        >>> labels.tolist()
        [True, False]
    """
    if not current().isolate:
        return read_trigger_labels_here(path, count)
    _, (labels,) = isolated("trigger_labels", path, count=(1,), images=count)
    if labels.shape != (count,):
        raise ReaderError(f"{path}: its reader hands back no trigger labels.")
    return labels.astype(bool)


def write_trigger_labels(path: str | PathLike[str], triggered: np.ndarray) -> None:
    """Writes (n,) True for each image that carries a trigger, as `read_trigger_labels` takes it.

    Args:
        path: the `.npy` file; it appears only when it is whole.
        triggered: (n,) bool.

    Raises:
        InputError: nothing can be written at `path`.
    """
    with atomic_write(path) as partial, open(partial, "wb") as file:
        np.save(file, triggered)


def read_trigger_labels_here(path: str | PathLike[str], count: int) -> np.ndarray:
    """As `read_trigger_labels`, in this process whatever the limits say."""
    path = require_file(path, f"True or False for each image, as {_FORMATS}")
    readers = {".npy": _npy, ".csv": _csv, ".json": _json, ".pkl": _pickle, ".pickle": _pickle}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: trigger labels end in {path.suffix!r}, expected {_FORMATS}.")
    try:
        labels = [_as_bool(value) for value in reader(path)]
    except _BROKEN as error:
        raise InputError(
            f"{path}: these are no trigger labels ({str(error)[:200]}), expected a plain list with "
            "True or False for each image."
        ) from error
    if len(labels) != count:
        raise InputError(
            f"{path}: {len(labels)} trigger labels for {count} images, expected one each."
        )
    return np.array(labels, bool)


def _as_bool(value: Any) -> bool:
    """True or False of a truth value, 0, 1, or a word for one."""
    if isinstance(value, str):
        number = _NUMBER.fullmatch(value.strip())
        value = int(number[1]) if number else _WORDS.get(value.strip().lower(), value)
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    raise ValueError(f"found {str(value)[:40]!r}")


def _npy(path: Path) -> list[Any]:
    """Values of an array; memory-mapped, so that a made-up length in its head takes no memory."""
    values = np.lib.format.open_memmap(path, mode="r")
    if values.dtype.kind not in "biuf":
        raise ValueError(f"found values of type {values.dtype}")
    if values.ndim != 1 and values.shape[1:] != (1,):
        raise ValueError(f"found shape {values.shape}")
    return values.reshape(-1).tolist()


def _json(path: Path) -> list[Any]:
    values = json.loads(Path(path).read_text("utf-8"))
    if not isinstance(values, list):
        raise ValueError(f"found a {type(values).__name__}")
    return values


def _csv(path: Path) -> list[str]:
    """Values of a single column or of a single row, without a heading."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    if rows and len(rows) > 1 and not _is_truth(rows[0][0]):
        rows = rows[1:]
    if len(rows) == 1:
        return [cell for cell in rows[0] if cell.strip()]
    if any(len(row) != 1 for row in rows):
        raise ValueError("found several rows and columns")
    return [row[0] for row in rows]


def _is_truth(cell: str) -> bool:
    try:
        _as_bool(cell)
    except ValueError:
        return False
    return True


def _pickle(path: Path) -> list[Any]:
    """Values of a pickled flat list; an opcode that such a list does not need is refused.

    Even an unpickler that finds no classes can be made to take all memory (a memo entry with a
    huge number); a stack of plain values and lists has no such effect.
    """
    stack, marks = [], []
    for opcode, argument, _ in pickletools.genops(Path(path).read_bytes()):
        name = opcode.name
        if name in _PICKLE_PUSHES:
            stack.append(_PICKLE_PUSHES[name](argument))
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "APPEND":
            value = stack.pop()
            stack[-1].append(value)
        elif name in ("APPENDS", "LIST"):
            place = marks.pop()
            values = stack[place:]
            del stack[place:]
            if name == "LIST":
                stack.append([])
            stack[-1].extend(values)
        elif name not in _PICKLE_FRAME and name != "STOP":
            raise ValueError(f"this pickle holds {name}, which a list of them has not")
    if len(stack) != 1 or not isinstance(stack[0], list):
        raise ValueError("this pickle holds something other than one list")
    return stack[0]
