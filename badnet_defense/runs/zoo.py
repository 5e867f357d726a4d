"""The nets of an audit: those of a folder, or those that a list names."""

import csv
from dataclasses import dataclass
from pathlib import Path

from badnet_defense.data.files import check_links
from badnet_defense.errors import InputError

ENDINGS = (".h5", ".hdf5", ".keras")


@dataclass(frozen=True)
class Suspect:
    """A net to be audited.

    Attributes:
        name: by which its results are called; no other net of the audit has it.
        model: path of its file.
        clean: path of clean pictures for it.
    """

    name: str
    model: Path
    clean: Path


def read_zoo(nets, clean=None):
    """The `Suspect`s of a folder or of a list.

    Args:
        nets: a folder, whose .h5, .hdf5 and .keras files below it are taken, or a text file with a
            line `NET` or `NET,CLEAN` for each net, paths as seen from the list; empty lines and
            those that begin with # are passed over.
        clean: path of clean pictures for the nets whose line names none.

    Raises:
        InputError: there is no such folder or list, it holds no net, a net is named twice, or has
            no clean pictures.
    """
    nets = Path(nets)
    if nets.is_dir():
        check_links(nets)
        files = sorted(one for one in nets.rglob("*") if one.suffix in ENDINGS and one.is_file())
        found = [(one.relative_to(nets).as_posix(), one, clean) for one in files]
    elif nets.is_file():
        found = list(_listed(nets, clean))
    else:
        raise InputError(f"{nets}: no such folder or list of nets; check the path.")
    if not found:
        raise InputError(f"{nets}: it holds no nets; expected files that end in .h5 or .keras.")
    missing = [name for name, _, own in found if own is None]
    if missing:
        raise InputError(f"{missing[0]}: it has no clean pictures; give --clean DATA.")
    suspects = [Suspect(name.replace("/", "--"), model, Path(own)) for name, model, own in found]
    names = [one.name for one in suspects]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{nets}: two nets are called {twice[0]}; rename one.")
    return suspects


def _listed(path, clean):
    try:
        rows = list(csv.reader(path.read_text("utf-8-sig").splitlines()))
    except (ValueError, csv.Error) as error:
        raise InputError(
            f"{path}: no list of nets ({str(error)[:80]}); expected lines NET or NET,CLEAN."
        ) from None
    for row in rows:
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells[0].startswith("#"):
            continue
        if len(cells) > 2 or not cells[0]:
            raise InputError(f"{path}: {','.join(row)[:80]!r} came, expected NET or NET,CLEAN.")
        own = path.parent / cells[1] if len(cells) == 2 and cells[1] else clean
        yield Path(cells[0]).name, path.parent / cells[0], own
