"""Result files: one JSON for each run, with what is needed to make it again."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from badnet_defense.errors import InputError, one_line
from badnet_defense.io.files import (
    atomic_write,
    data_sha256,
    read_plain,
    require_file,
)
from badnet_defense.io.sealing import is_sealed, seal

_log = logging.getLogger(__name__)
SCHEMA = 1
STAGES = ("bad", "pruned", "repaired", "guard")
MEASURES = ("accuracy", "attack_success", "flagged", "der")
MAX_RESULT_SIZE = 64 * 2**20
"""Bytes of a result."""
MAX_COMPANION_SIZE = 2**30
"""Bytes of what lies beside it, such as a scan's triggers."""
MAX_VALUES = 2_000_000
_SEAL = "seal"
_PACKAGES = {
    "tensorflow": "tensorflow",
    "keras": "keras",
    "numpy": "numpy",
    "badnet_defense": "badnet-defense",
}
_COMPUTING = (
    *("benchmarking", "detectors", "evaluation", "guards", "io", "nets", "repairs", "scan"),
    "workflows",
)
"""Parts of the package whose code decides on figures."""


def write_json(
    path: str | os.PathLike[str], result: Mapping[str, Any], *, sealed: str | None = None
) -> None:
    """Writes a result as JSON, complete or not at all; makes the folder if need be.

    Args:
        path: the file to write.
        result: nested dicts and lists; numpy numbers, arrays and paths are written as plain ones.
            Lists of numbers take one line.
        sealed: what it is a result of, such as "scan": adds this user's seal, by which `own_result`
            knows it again.

    Raises:
        ValueError: NaN or infinity, which JSON does not know.
        InputError: nothing can be written at `path`.
    """
    text = _as_text(result)
    if sealed and (own := seal(_purpose(sealed), _canonical(json.loads(text)))) is not None:
        text = _as_text({**result, _SEAL: own.hex()})
    with atomic_write(path) as partial:
        # A file's name may hold bytes that are no text.
        partial.write_text(text + "\n", "utf-8", errors="backslashreplace")


def _as_text(result: Mapping[str, Any]) -> str:
    text = json.dumps(result, indent=2, default=_plain, allow_nan=False, ensure_ascii=False)
    return re.sub(r"\[\n[-+.\deE,\s]*\]", lambda found: _one_line(found.group()), text)


def _canonical(plain: Any) -> bytes:
    return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()


def _purpose(kind: str) -> str:
    return f"{kind}, schema {SCHEMA}"


def own_result(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """A result of this user's, as a dict; empty where there is none.

    Whether today's code would give it is another question (`io.current.is_current`).

    What bears no such seal, or was changed since, is not believed: it will be made anew, which is
    told once for each folder.

    Args:
        path: of the JSON file.
        kind: what `write_json` was told with `sealed`.
    """
    try:
        result = _parsed(path, read_plain(path, MAX_RESULT_SIZE))
        own = bytes.fromhex(str(result.pop(_SEAL, "")))
        if is_sealed(_purpose(kind), _canonical(result), own):
            return result
    except (InputError, ValueError, RecursionError):
        if not os.path.lexists(path):
            return {}
    _tell_unsealed(Path(path).parent)
    return {}


@cache
def _tell_unsealed(folder: Path) -> None:
    _log.warning(
        "%s: results there do not bear your seal (made by an older version, by somebody else or on "
        "another machine, or changed since); they are made anew.",
        one_line(folder),
    )


def own_bytes(path: str | os.PathLike[str], sha256: str, most: int = MAX_COMPANION_SIZE) -> bytes:
    """The bytes of a file beside a result of this user's, which tells its SHA-256.

    Raises:
        InputError: it is not there or is another one, a link or larger than `most` bytes.
    """
    content = read_plain(path, most)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{path}: this is not the file that its run has written; run it again.")
    return content


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A result that `write_json` wrote, as a dict, whoever wrote it.

    Raises:
        InputError: there is no such file, or it holds no result of this project.
    """
    path = require_file(path, "a result (.json)")
    return _parsed(path, read_plain(os.path.realpath(path), MAX_RESULT_SIZE))


def read_figures(path: str | os.PathLike[str]) -> dict[str, Any]:
    """As `read_json`, a result whose figures can be put into a table.

    Raises:
        InputError: it is no result of a repair or of a defence.
    """
    result = read_json(path)
    sets = [result.get("data", {}).get("poisoned")] if isinstance(result.get("data"), dict) else []
    files = [one for one in [result.get("net"), *sets] if one is not None]
    stages = [result[stage] for stage in STAGES if stage in result]
    right = (
        isinstance(result.get("data", {}), dict)
        and all(isinstance(one, dict) and isinstance(one.get("file"), str) for one in files)
        and bool(stages)
        and all(isinstance(stage, dict) and all(map(_measures, stage.values())) for stage in stages)
    )
    if not right:
        raise InputError(
            f"{path}: expected the result of a repair or of a defence, with figures of "
            f"{', '.join(STAGES)}."
        )
    return result


def _measures(measures: Any) -> bool:
    """True for a dict whose `MEASURES` and their ends are numbers of a sensible size, or None."""
    if not isinstance(measures, dict):
        return False
    figures = [measures.get(name) for name in MEASURES]
    intervals = [measures.get(f"{name}_interval") for name in MEASURES]
    return all(one is None or _number(one) for one in figures) and all(
        one is None or (isinstance(one, list) and len(one) == 2 and all(map(_number, one)))
        for one in intervals
    )


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e9


def _parsed(path: str | os.PathLike[str], content: bytes) -> dict[str, Any]:
    """A result's bytes as a dict, of a size, numbers and depth that can be handled."""
    try:
        if sum(map(content.count, (b",", b"[", b"{"))) > MAX_VALUES:
            raise ValueError("too many values")
        result = json.loads(content, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        raise InputError(f"{path}: this is not JSON, expected a result of this project.") from None
    if not isinstance(result, dict) or result.get("schema") != SCHEMA:
        raise InputError(f"{path}: expected a result with schema {SCHEMA}; make it again.")
    return result


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number")
    return value


def provenance(
    *,
    net_path: str | os.PathLike[str],
    data_paths: Mapping[str, str | os.PathLike[str] | None],
    classes: int,
    seed: int,
    seconds: float,
    digest: Callable[[Any], Any] = data_sha256,
) -> dict[str, Any]:
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


def digests_read(*read: Any) -> Callable[[str | os.PathLike[str]], str]:
    """A `digest` for `provenance`: the SHA-256 that a net's or a data set's bytes had when read.

    What lies at a path at the end of a run may be another file. Paths that are not among `read`
    are hashed as they are now.

    Args:
        read: `Net`s and `Dataset`; None is passed over.
    """
    known = {}
    for one in read:
        notes = getattr(one, "attributes", None)
        if notes is not None:
            known[notes.get("file")] = notes.get("file_sha256")
        elif one is not None:
            known[one.source] = one.sha256
    return lambda path: known.get(os.fspath(path)) or data_sha256(path)


def versions() -> dict[str, str | None]:
    """Versions as installed, read without importing the packages (TensorFlow takes 3 s)."""
    found: dict[str, str | None] = {}
    for name, distribution in _PACKAGES.items():
        try:
            found[name] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


@cache
def code_sha256() -> str:
    """SHA-256 of the package's computing source: two states of it may bear the same version."""
    root, digest = Path(__file__).resolve().parents[1], hashlib.sha256()
    for path in sorted(one for part in _COMPUTING for one in (root / part).rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """What `json` cannot write by itself."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(
        f"a result holds a {type(value).__name__}, expected numbers, text, lists, dicts"
    )


def _one_line(numbers: str) -> str:
    return re.sub(r",\s+", ", ", re.sub(r"^\[\s+|\s+\]$", lambda m: m.group().strip(), numbers))
