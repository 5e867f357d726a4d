"""A folder of images with one sub-folder a class."""

from __future__ import annotations

import logging
from os import PathLike
from pathlib import Path

import numpy as np
from tqdm import tqdm

from badnet_defense.errors import InputError, TooLargeError
from badnet_defense.io.dataset import Dataset
from badnet_defense.io.files import check_links
from badnet_defense.io.image_files import read_and_resize
from badnet_defense.io.labels import check_labels
from badnet_defense.io.listing import FORMATS, image_files, is_image, left_out, visible
from badnet_defense.sandbox.client import memory_limit

_log = logging.getLogger("badnet_defense")


def read_image_folder(
    path: str | PathLike[str], *, shape: tuple[int, int, int], classes: int | None = None
) -> Dataset:
    """All images of a folder, in order of class and file name.

    Sub-folders named by whole numbers (`0`, `00012`) are the class numbers; other names, sorted,
    are the classes 0..k-1. Images directly in the folder, without sub-folders, are unlabelled.
    Images of another size are resized, and their number is said through the logger; so is what
    is no image of `listing.FORMATS` and is left out.

    Args:
        path: the folder.
        shape: the net's input (h, w, channels).
        classes: the net's class count N; names must be k = N, numbers must lie in 0..N-1.

    Returns:
        `Dataset` with `uint8` images (n, h, w, channels), and the folders' names.

    Raises:
        InputError: no such folder, no images, images beside sub-folders, a class folder without
            images or with folders in it, classes that do not fit the net, or an image that cannot
            be read.

    Examples:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> from badnet_defense.io import read_image_folder
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for label in ("0", "3"):
        ...         pathlib.Path(folder, label).mkdir()
        ...         Image.new("RGB", (4, 6)).save(f"{folder}/{label}/a.png")
        ...     data = read_image_folder(folder, shape=(6, 4, 3))
        >>> data.images.shape, data.labels.tolist(), data.folders
        ((2, 6, 4, 3), [0, 3], ('0', '3'))
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"{path}: no such folder, expected one with a sub-folder a class.")
    check_links(path)
    folders = [entry for entry in visible(path) if entry.is_dir()]
    loose = image_files(path)
    if folders and loose:
        raise InputError(
            f"{path}: holds {len(loose)} images beside sub-folders, expected one sub-folder a "
            "class, or images alone."
        )
    numbers = _class_numbers(folders, classes, path) if folders else {}
    _tell_left_out(path, folders)
    found = [(number, file) for number, sub in numbers.items() for file in image_files(sub)]
    files = [file for _, file in found] or loose
    if not files:
        raise InputError(f"{path}: holds no {FORMATS} images, expected one sub-folder a class.")
    labels = names = None
    if found:
        labels = check_labels(np.array([number for number, _ in found]), classes, path)
        names = tuple(sorted(folder.name for folder in folders))
    return Dataset(_read_all(files, shape, path), labels, str(path), folders=names)


def _class_numbers(folders: list[Path], classes: int | None, path: Path) -> dict[int, Path]:
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
    numbers: dict[int, Path] = {}
    for folder in sorted(folders, key=lambda folder: int(folder.name)):
        twin = numbers.setdefault(int(folder.name), folder)
        if twin is not folder:
            raise InputError(
                f"{path}: sub-folders {twin.name} and {folder.name} are the same class number, "
                "expected one sub-folder a class."
            )
    return numbers


def _tell_left_out(path: Path, folders: list[Path]) -> None:
    """Says what in a folder and in its class folders is not read.

    Raises:
        InputError: a class folder holds no image, or folders, in which images may lie.
    """
    others = [entry for entry in visible(path) if not (is_image(entry) or entry.is_dir())]
    for folder in folders:
        images, rest = image_files(folder), [one for one in visible(folder) if not is_image(one)]
        inner = [one.name for one in rest if one.is_dir()]
        if inner:
            raise InputError(
                f"{folder}: holds a folder {inner[0]!r}, expected the images of one class; move "
                "them up, or the folder out."
            )
        if not images:
            found = left_out(rest) or "nothing"
            raise InputError(
                f"{folder}: holds no image ({found}), expected {FORMATS} images of this class; "
                "convert them, or remove the folder."
            )
        others += rest
    if others:
        _log.warning(
            "%s: %d files are no %s images and are left out: %s.",
            *(path, len(others), FORMATS, left_out(others)),
        )


def _read_all(files: list[Path], shape: tuple[int, int, int], path: Path) -> np.ndarray:
    """(n, h, w, channels) `uint8` of all files, with a progress bar on a terminal."""
    needed, most = len(files) * int(np.prod(shape)), memory_limit()
    if needed > most:
        raise TooLargeError(
            f"{path}: {len(files)} images of {shape[0]}x{shape[1]} take {needed >> 20:,} MB of "
            f"memory, expected at most {most >> 20:,} MB on this machine; take a part of them."
        )
    images = np.empty((len(files), *shape), np.uint8)
    resized = 0
    for index, file in enumerate(tqdm(files, desc=path.name, unit="image", disable=None)):
        images[index], original = read_and_resize(file, shape)
        resized += original != tuple(shape[:2])
    if resized:
        size = "x".join(map(str, shape[:2]))
        _log.warning(
            "%s: %d of %d images resized to %s (height x width).", path, resized, len(files), size
        )
    return images
