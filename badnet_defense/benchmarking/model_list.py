"""The nets of an audit: those of a folder, those that a list names, or one."""

import csv
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from badnet_defense.errors import InputError, LinkOutError, naming
from badnet_defense.io.files import read_plain
from badnet_defense.nets.input_range import InputRange

ENDINGS = (".h5", ".hdf5", ".keras")
LONGEST_NAME = 100
LARGEST_LIST = 16 * 2**20
LINES = "NET or NET,CLEAN or NET,CLEAN,LOW,HIGH"


@dataclass(frozen=True)
class Suspect:
    """A net to be audited.

    Attributes:
        name: by which its results are called; no other net of the audit has it.
        model: path of its file.
        clean: path of clean pictures for it.
        input_range: its `InputRange`, where its line names one.
    """

    name: str
    model: Path
    clean: Path
    input_range: InputRange | None = None


def read_zoo(nets, clean=None, *, out=None):
    """The `Suspect`s of a folder, of a list, or of one file.

    Args:
        nets: a folder, whose .h5, .hdf5 and .keras files below it are taken, such a file, or a text
            file with a line `NET`, `NET,CLEAN` or `NET,CLEAN,LOW,HIGH` (its input range) for each
            net, paths as seen from the list; empty lines and those that begin with # are passed
            over.
        clean: path of clean pictures for the nets whose line names none.
        out: folder of the audit's results; what lies below it is no suspect, nor is `clean`.

    Raises:
        InputError: there is no such folder or list, it holds no net, a net is named twice, or has
            no clean pictures.
        LinkOutError: a net in the folder is a link out of it.
    """
    nets = Path(nets)
    if nets.is_dir():
        found = [(name, model, clean, None) for name, model in _below(nets, clean, out)]
    elif nets.is_file() and nets.suffix.lower() in ENDINGS:
        found = [(nets.name, nets, clean, None)]
    elif nets.is_file():
        found = list(_listed(nets, clean))
    else:
        raise InputError(f"{nets}: no such folder or list of nets; check the path.")
    if not found:
        raise InputError(f"{nets}: it holds no nets; expected files that end in .h5 or .keras.")
    for name, _, own, _ in found:
        if own is None:
            raise InputError(f"{name}: it has no clean pictures; give --clean DATA.")
        if not Path(own).exists():
            raise InputError(f"{own}: no such file or folder, expected clean pictures for {name}.")
    suspects = [
        Suspect(plain(name), model, Path(own), range_) for name, model, own, range_ in found
    ]
    names = [one.name for one in suspects]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{nets}: {twice[0]} comes twice; take one line out.")
    return suspects


def plain(name):
    """A path as a file's name: short, of plain letters, and different for different paths."""
    shown = re.sub(r"[^A-Za-z0-9._-]", "_", name.replace("/", "--")).lstrip(".-")
    same = shown == name.replace("/", "--") and "--" not in name
    if same and len(shown) <= LONGEST_NAME:
        return shown
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
    return f"{shown[-LONGEST_NAME:]}.{digest}"


def _below(folder, clean, out):
    """(path below the folder, file) of its nets."""
    root = folder.resolve()
    others = [Path(one).resolve() for one in (clean, out) if one is not None]
    for model in sorted(folder.rglob("*")):
        if model.suffix.lower() not in ENDINGS or not model.is_file():
            continue
        real = model.resolve()
        if not real.is_relative_to(root):
            raise LinkOutError(
                f"{model}: this is a link out of {folder}, expected nets themselves."
            )
        if not any(real.is_relative_to(one) for one in others):
            yield model.relative_to(folder).as_posix(), model


def _listed(path, clean):
    content = read_plain(os.path.realpath(path), LARGEST_LIST)
    try:
        text = content.decode("utf-8-sig")
        rows = list(csv.reader(text.splitlines()))
        if "\0" in text:
            raise ValueError("it holds a zero byte")
    except (ValueError, csv.Error) as error:
        raise InputError(
            f"{path}: no list of nets ({str(error)[:80]}); expected lines {LINES}."
        ) from None
    for row in rows:
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells[0].startswith("#"):
            continue
        if len(cells) not in (1, 2, 4) or not cells[0]:
            raise InputError(f"{path}: {','.join(row)[:80]!r} came, expected {LINES}.")
        own = path.parent / cells[1] if len(cells) > 1 and cells[1] else clean
        with naming(path):
            range_ = InputRange.parse(",".join(cells[2:])) if len(cells) == 4 else None
        yield Path(cells[0]).as_posix(), path.parent / cells[0], own, range_
