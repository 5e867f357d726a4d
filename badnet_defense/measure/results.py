"""Result files: one JSON for each run, with what is needed to make it again."""

import hashlib
import json
import os
import platform
import re
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np

from badnet_defense.data.files import data_sha256, replace_when_done, require_file
from badnet_defense.errors import InputError

SCHEMA = 1
_PACKAGES = {
    "tensorflow": "tensorflow",
    "keras": "keras",
    "numpy": "numpy",
    "badnet_defense": "badnet-defense",
}
_COMPUTING = ("data", "guard", "measure", "nets", "repair", "runs", "scan")
"""Parts of the package whose code decides on figures."""


def write_json(path, result):
    """Writes a result as JSON, complete or not at all; makes the folder if need be.

    Args:
        path: the file to write.
        result: nested dicts and lists; numpy numbers, arrays and paths are written as plain ones.
            Lists of numbers take one line.

    Raises:
        ValueError: NaN or infinity, which JSON does not know.
        InputError: nothing can be written at `path`.
    """
    text = json.dumps(result, indent=2, default=_plain, allow_nan=False, ensure_ascii=False)
    text = re.sub(r"\[\n[-+.\deE,\s]*\]", lambda found: _one_line(found.group()), text)
    with replace_when_done(path) as partial:
        # A file's name may hold bytes that are no text.
        partial.write_text(text + "\n", "utf-8", errors="backslashreplace")


def readable(path):
    """As `read_json`; empty where nothing is there or it cannot be read: it will be made anew."""
    try:
        return read_json(path)
    except InputError:
        return {}


def read_json(path):
    """A result that `write_json` wrote, as a dict.

    Raises:
        InputError: there is no such file, or it holds no result of this project.
    """
    path = require_file(path, "a result (.json)")
    try:
        result = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError):
        raise InputError(f"{path}: this is not JSON, expected a result of this project.") from None
    if not isinstance(result, dict) or result.get("schema") != SCHEMA:
        raise InputError(f"{path}: expected a result with schema {SCHEMA}; make it again.")
    return result


def provenance(*, net_path, data_paths, classes, seed, seconds, digest=data_sha256):
    """What a result was made from: every result file begins with it.

    Args:
        net_path: the net's file.
        data_paths: name -> path of a data file or folder, such as
            `{"clean_test": "data/clean_test_data.h5", "poisoned": None}`; None is left out.
        classes: the net's class count N.
        seed: the run's seed.
        seconds: the run's duration.
        digest: gives a file's or folder's SHA-256; a run of many results hands in one that keeps
            what it has read.

    Returns:
        A dict with `schema`, `net` and `data` (each `file` as given and its `sha256`), `classes`,
        `seed`, `seconds`, `versions` (None for a package that is not installed) and `code` (see
        `code_sha256`).

    Raises:
        InputError: a file is missing.
    """
    data = {name: path for name, path in data_paths.items() if path is not None}
    return {
        "schema": SCHEMA,
        "net": {"file": os.fspath(net_path), "sha256": digest(net_path)},
        "data": {
            name: {"file": os.fspath(path), "sha256": digest(path)} for name, path in data.items()
        },
        "classes": int(classes),
        "seed": int(seed),
        "seconds": round(float(seconds), 1),
        "versions": {"python": platform.python_version(), **versions()},
        "code": code_sha256(),
    }


def digests_read(*read):
    """A `digest` for `provenance`: the SHA-256 that a net's or a data set's bytes had when read.

    What lies at a path at the end of a run may be another file. Paths that are not among `read`
    are hashed as they are now.

    Args:
        read: `NetSpec`s and `LabelledImages`; None is passed over.
    """
    known = {}
    for one in read:
        notes = getattr(one, "attributes", None)
        if notes is not None:
            known[notes.get("file")] = notes.get("file_sha256")
        elif one is not None:
            known[one.source] = one.sha256
    return lambda path: known.get(os.fspath(path)) or data_sha256(path)


def versions():
    """Versions as installed, read without importing the packages (TensorFlow takes 3 s)."""
    versions = {}
    for name, distribution in _PACKAGES.items():
        try:
            versions[name] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


@cache
def code_sha256():
    """SHA-256 of the package's computing source: two states of it may bear the same version."""
    root, digest = Path(__file__).resolve().parents[1], hashlib.sha256()
    for path in sorted(one for part in _COMPUTING for one in (root / part).rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _plain(value):
    """What `json` cannot write by itself."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(
        f"a result holds a {type(value).__name__}, expected numbers, text, lists, dicts"
    )


def _one_line(numbers):
    return re.sub(r",\s+", ", ", re.sub(r"^\[\s+|\s+\]$", lambda m: m.group().strip(), numbers))
