"""A folder of pictures with one sub-folder a class."""

import logging
from pathlib import Path

import numpy as np
from tqdm import tqdm

from badnet_defense.data.files import check_links
from badnet_defense.data.images import LabelledImages
from badnet_defense.data.labels import check_labels
from badnet_defense.data.picture import read_and_resize
from badnet_defense.errors import InputError

_log = logging.getLogger("badnet_defense")

_SUFFIXES = (".png", ".jpg", ".jpeg")


def read_picture_folder(path, *, shape, classes=None):
    """All PNG and JPEG pictures of a folder, in order of class and file name.

    Sub-folders named by whole numbers (`0`, `00012`) are the class numbers; other names, sorted,
    are the classes 0..k-1. Pictures directly in the folder, without sub-folders, are unlabelled.
    Pictures of another size are resized, and their number is said through the logger.

    Args:
        path: the folder.
        shape: the net's input (h, w, channels).
        classes: the net's class count N; names must be k = N, numbers must lie in 0..N-1.

    Returns:
        `LabelledImages` with `uint8` pictures (n, h, w, channels).

    Raises:
        InputError: no such folder, no pictures, pictures beside sub-folders, classes that do not
            fit the net, or a picture that cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"{path}: no such folder, expected one with a sub-folder a class.")
    check_links(path)
    folders = sorted(entry for entry in _visible(path) if entry.is_dir())
    loose = _picture_files(path)
    if folders and loose:
        raise InputError(
            f"{path}: holds {len(loose)} pictures beside sub-folders, expected one sub-folder a "
            "class, or pictures alone."
        )
    numbers = _class_numbers(folders, classes, path) if folders else {}
    found = [(number, file) for number, sub in numbers.items() for file in _picture_files(sub)]
    files = [file for _, file in found] or loose
    if not files:
        raise InputError(f"{path}: holds no PNG or JPEG pictures, expected one sub-folder a class.")
    labels = None
    if found:
        labels = check_labels(np.array([number for number, _ in found]), classes, path)
    return LabelledImages(_read_all(files, shape, path), labels, str(path))


def _class_numbers(folders, classes, path):
    """Class number -> sub-folder, in order of the numbers."""
    as_numbers = [folder.name.isdecimal() for folder in folders]
    if any(as_numbers) and not all(as_numbers):
        odd = folders[as_numbers.index(False)].name
        raise InputError(
            f"{path}: sub-folder {odd!r} is no number but others are, expected class numbers for "
            "all or names for all."
        )
    if not any(as_numbers):
        if classes is not None and len(folders) != classes:
            raise InputError(
                f"{path}: {len(folders)} named sub-folders, but the net has {classes} classes; "
                "name the sub-folders by the net's class numbers."
            )
        return dict(enumerate(folders))
    numbers = {}
    for folder in sorted(folders, key=lambda folder: int(folder.name)):
        twin = numbers.setdefault(int(folder.name), folder)
        if twin is not folder:
            raise InputError(
                f"{path}: sub-folders {twin.name} and {folder.name} are the same class number, "
                "expected one sub-folder a class."
            )
    return numbers


def _read_all(files, shape, path):
    """(n, h, w, channels) `uint8` of all files, with a progress bar on a terminal."""
    pictures = np.empty((len(files), *shape), np.uint8)
    resized = 0
    for index, file in enumerate(tqdm(files, desc=path.name, unit="picture", disable=None)):
        pictures[index], original = read_and_resize(file, shape)
        resized += original != tuple(shape[:2])
    if resized:
        size = "x".join(map(str, shape[:2]))
        _log.warning(
            "%s: %d of %d pictures resized to %s (height x width).", path, resized, len(files), size
        )
    return pictures


def _picture_files(folder):
    """The picture files directly in `folder`, sorted by name."""
    return sorted(
        entry for entry in _visible(folder) if entry.suffix.lower() in _SUFFIXES and entry.is_file()
    )


def _visible(folder):
    """Entries of `folder` without the hidden ones that systems leave behind."""
    return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
