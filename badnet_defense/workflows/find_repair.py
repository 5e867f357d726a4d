"""Where a model's repair is written and looked for, the same for every command."""

from __future__ import annotations

import os
from pathlib import Path

from badnet_defense.errors import InputError
from badnet_defense.guards.pairing import FOLDER, belongs


class NoRepairError(InputError):
    """A model has no repair to answer or to be measured with."""


def output_folder(model: str | os.PathLike[str], home: str | os.PathLike[str] = ".") -> Path:
    """The folder that a repair of `model` is written to, where none is named.

    Args:
        model: path of the suspect model.
        home: the folder to work in.

    Returns:
        `fine_pruned_models` beside the model's folder where that is named `models`, else in `home`.

    Examples:
        >>> output_folder("/data/models/net.h5").as_posix()
        '/data/fine_pruned_models'
        >>> output_folder("/data/net.h5").as_posix()
        'fine_pruned_models'
    """
    beside, own = Path(model).parent, Path(home) / FOLDER
    return beside.parent / FOLDER if beside.name == "models" else own


def repair_folders(model: str | os.PathLike[str], home: str | os.PathLike[str] = ".") -> list[Path]:
    """The folders where a repair of `model` is looked for, where none is named, best first.

    Examples:
        >>> [folder.as_posix() for folder in repair_folders("/data/nets/net.h5")]
        ['/data/fine_pruned_models', 'fine_pruned_models']
        >>> [folder.as_posix() for folder in repair_folders("models/net.h5")]
        ['fine_pruned_models']
    """
    return list(dict.fromkeys((Path(model).parent.parent / FOLDER, Path(home) / FOLDER)))


def find_repair(
    model: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    home: str | os.PathLike[str] = ".",
) -> Path | None:
    """The file of a model's repair, or None where there is none.

    Args:
        model: path of the suspect model.
        folder: the only folder to look in; default: those of `repair_folders`.
        home: the folder to work in.

    Returns:
        A file named as the model's. Where several folders hold one, the first that was made from
        this model; whether a single one was is for its reader to say.
    """
    folders = repair_folders(model, home) if folder is None else [Path(folder)]
    files = [one / f"{Path(model).stem}.h5" for one in folders]
    files = [file for file in files if file.is_file()]
    if len(files) > 1:
        files = [file for file in files if belongs(model, file)] or files
    return files[0] if files else None


def require_repair(
    model: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    home: str | os.PathLike[str] = ".",
) -> Path:
    """The file of a model's repair; see `find_repair`.

    Raises:
        NoRepairError: there is none; the message says where was looked.
        InputError: the model itself is not there.
    """
    file = find_repair(model, folder, home)
    if file is None:
        if not Path(model).is_file():
            raise InputError(f"{model}: no such file; check the name.")
        folders = repair_folders(model, home) if folder is None else [Path(folder)]
        raise NoRepairError(
            f"no repaired model for {model} in {' or '.join(map(str, folders))}; create it with "
            f"badnet-defense repair {model} --clean DATA, or give its guard "
            f"({Path(model).stem}.guard.keras)."
        )
    return file
