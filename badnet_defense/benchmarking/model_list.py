"""The models of an audit: those of a folder, those that a list names, or one."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from badnet_defense.errors import InputError, LinkOutError, naming
from badnet_defense.io.files import read_plain
from badnet_defense.nets.input_range import InputRange

ENDINGS = (".h5", ".hdf5", ".keras")
MAX_NAME = 100
MAX_LIST_BYTES = 16 * 2**20
LINES = "MODEL or MODEL,CLEAN or MODEL,CLEAN,LOW,HIGH"


@dataclass(frozen=True)
class AuditItem:
    """A model to be audited.

    Attributes:
        name: of its results; no other model of the audit has it.
        model: path of its file.
        clean: path of clean images for it.
        input_range: its range, where its line names one.
    """

    name: str
    model: Path
    clean: Path
    input_range: InputRange | None = None


def read_model_list(
    models: str | Path, clean: str | Path | None = None, *, out: str | Path | None = None
) -> list[AuditItem]:
    """The models of a folder, of a list, or of one file.

    Args:
        models: a folder, whose .h5, .hdf5 and .keras files at any depth are taken, such a file, or
            a text file with a line `MODEL`, `MODEL,CLEAN` or `MODEL,CLEAN,LOW,HIGH` (its input
            range) for each model, with paths relative to the list; empty lines and those that begin
            with # are ignored.
        clean: path of clean images for the models whose line names none.
        out: folder of the audit's results; what lies below it is no model, nor is `clean`.

    Raises:
        InputError: there is no such folder or list, it holds no model, a model is named twice, or
            has no clean images.
        LinkOutError: a model in the folder is a link out of it.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("a.h5", "b.keras", "clean.h5"):
        ...         Path(folder, name).touch()
        ...     items = read_model_list(folder, f"{folder}/clean.h5")
        >>> [item.name for item in items]
        ['a.h5', 'b.keras']
    """
    models = Path(models)
    found: list[tuple[str, Path, str | Path | None, InputRange | None]]
    if models.is_dir():
        found = [(name, model, clean, None) for name, model in _below(models, clean, out)]
    elif models.is_file() and models.suffix.lower() in ENDINGS:
        found = [(models.name, models, clean, None)]
    elif models.is_file():
        found = list(_listed(models, clean))
    else:
        raise InputError(f"{models}: no such folder or list of models; check the path.")
    if not found:
        raise InputError(f"{models}: it holds no models; expected files that end in .h5 or .keras.")
    items = [_item(*one) for one in found]
    names = [item.name for item in items]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{models}: {twice[0]} is listed twice; remove one line.")
    return items


def _item(
    name: str, model: Path, clean: str | Path | None, input_range: InputRange | None
) -> AuditItem:
    if clean is None:
        raise InputError(f"{name}: it has no clean images; name some for all models.")
    if not Path(clean).exists():
        raise InputError(f"{clean}: no such file or folder, expected clean images for {name}.")
    return AuditItem(plain(name), model, Path(clean), input_range)


def plain(name: str) -> str:
    """A path as a file's name: short, of plain letters, and different for different paths.

    Examples:
        >>> plain("more/net.h5")
        'more--net.h5'
    """
    shown = re.sub(r"[^A-Za-z0-9._-]", "_", name.replace("/", "--")).lstrip(".-")
    same = shown == name.replace("/", "--") and "--" not in name
    if same and len(shown) <= MAX_NAME:
        return shown
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
    return f"{shown[-MAX_NAME:]}.{digest}"


def _below(
    folder: Path, clean: str | Path | None, out: str | Path | None
) -> Iterator[tuple[str, Path]]:
    """(path below the folder, file) of its models."""
    root = folder.resolve()
    others = [Path(path).resolve() for path in (clean, out) if path is not None]
    for model in sorted(folder.rglob("*")):
        if model.suffix.lower() not in ENDINGS or not model.is_file():
            continue
        real = model.resolve()
        if not real.is_relative_to(root):
            raise LinkOutError(
                f"{model}: this is a link out of {folder}, expected models themselves."
            )
        if not any(real.is_relative_to(path) for path in others):
            yield model.relative_to(folder).as_posix(), model


def _listed(
    path: Path, clean: str | Path | None
) -> Iterator[tuple[str, Path, str | Path | None, InputRange | None]]:
    """(name, model, clean images, input range) of each line."""
    content = read_plain(os.path.realpath(path), MAX_LIST_BYTES)
    try:
        text = content.decode("utf-8-sig")
        rows = list(csv.reader(text.splitlines()))
        if "\0" in text:
            raise ValueError("it holds a zero byte")
    except (ValueError, csv.Error) as error:
        raise InputError(
            f"{path}: no list of models ({str(error)[:80]}); expected lines {LINES}."
        ) from None
    for row in rows:
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells[0].startswith("#"):
            continue
        if len(cells) not in (1, 2, 4) or not cells[0]:
            raise InputError(f"{path}: got {','.join(row)[:80]!r}, expected {LINES}.")
        images = path.parent / cells[1] if len(cells) > 1 and cells[1] else clean
        with naming(path):
            range_ = InputRange.parse(",".join(cells[2:])) if len(cells) == 4 else None
        yield Path(cells[0]).as_posix(), path.parent / cells[0], images, range_
