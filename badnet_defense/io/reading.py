"""One way to read images, whatever they come in."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from badnet_defense.errors import InputError, ReaderError
from badnet_defense.io.dataset import Dataset
from badnet_defense.io.files import data_sha256, require_file, unchanged
from badnet_defense.io.folder import read_image_folder
from badnet_defense.io.hdf5 import read_challenge_h5
from badnet_defense.io.image_files import read_image
from badnet_defense.io.labels import check_labels
from badnet_defense.io.listing import FORMATS
from badnet_defense.sandbox.client import isolated
from badnet_defense.sandbox.limits import current

_MODELS = (".keras", ".onnx", ".pb", ".tflite", ".pt", ".pth", ".safetensors")


def read_images(
    path: str | os.PathLike[str],
    *,
    shape: tuple[int, int, int] | None,
    classes: int | None = None,
    need_labels: bool = False,
    labels_matter: bool = True,
) -> Dataset:
    """Images of a challenge HDF5 file, of a folder with a sub-folder a class, or one image.

    Args:
        path: a `.h5` or `.hdf5` file, a folder, or an image file (one unlabelled image).
        shape: the net's input (h, w, channels); of an HDF5 file None takes the shape it has.
        classes: the net's class count N; labels must lie in 0..N-1. None where they may be
            numbered otherwise (`label_order`), or where they play no part.
        need_labels: refuse what has no labels.
        labels_matter: False leaves out labels that are no class numbers, such as one-hot rows, and
            says so; True refuses them.

    Returns:
        `Dataset` of n > 0 images (n, h, w, channels), labels None if there are none.

    Raises:
        InputError: the images cannot be read, or do not fit the net.

    Examples:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> from badnet_defense.io import read_images
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for label in ("0", "3"):
        ...         pathlib.Path(folder, label).mkdir()
        ...         Image.new("RGB", (4, 6)).save(f"{folder}/{label}/a.png")
        ...     data = read_images(folder, shape=(6, 4, 3))
        >>> data.images.shape, data.labels.tolist()
        ((2, 6, 4, 3), [0, 3])
    """
    asked: dict[str, Any] = {
        "classes": classes,
        "need_labels": need_labels,
        "labels_matter": labels_matter,
    }
    with unchanged(path):
        read = _read_isolated if current().isolate else read_images_in_process
        return replace(read(path, shape=shape, **asked), sha256=data_sha256(path))


def _read_isolated(
    path: str | os.PathLike[str], *, shape: tuple[int, int, int] | None, **asked: Any
) -> Dataset:
    """As `read_images_in_process`, in a process of its own; what comes back is checked."""
    classes, need_labels = asked["classes"], asked["need_labels"]
    sides = None if shape is None else list(shape)
    found, (images, *rest) = isolated("images", path, count=(1, 2), shape=sides, **asked)
    whole = not rest or (rest[0].shape == (len(images),) and rest[0].dtype == np.int64)
    labels = check_labels(rest[0], classes, path) if rest and whole and len(images) else None
    names = found.get("folders")
    right = (
        whole
        and (names is None or (labels is not None and _are_names(names)))
        and (labels is not None or not need_labels)
        and images.ndim == 4
        and (shape is None or images.shape[1:] == tuple(shape))
        and images.dtype in (np.uint8, np.float32)
        and isinstance(found.get("synthetic"), bool)
    )
    if not right:
        raise ReaderError(f"{path}: its reader hands back no images.")
    folders = None if names is None else tuple(names)
    try:
        return Dataset(images, labels, str(path), found["synthetic"], folders)
    except InputError as error:
        raise ReaderError(f"{error} Its reader hands back no images.") from None


def _are_names(names: Any) -> bool:
    """True for a list of class folders' names, each one once."""
    texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return texts and 0 < len(names) == len(set(names))


def read_images_in_process(
    path: str | os.PathLike[str],
    *,
    shape: tuple[int, int, int] | None,
    classes: int | None,
    need_labels: bool,
    labels_matter: bool = True,
) -> Dataset:
    """As `read_images`, in this process whatever the limits say."""
    if Path(path).suffix.lower() in (".h5", ".hdf5") and not os.path.isdir(path):
        data = read_challenge_h5(
            path,
            classes=classes,
            shape=shape,
            need_labels=need_labels,
            labels_matter=labels_matter,
        )
    elif shape is None:
        raise InputError(
            f"{path}: image files have many sizes, expected the one to read them at (shape)."
        )
    elif os.path.isdir(path):
        data = read_image_folder(path, shape=shape, classes=classes)
    elif Path(path).suffix.lower() in _MODELS:
        require_file(path, "images")
        raise InputError(
            f"{path}: this is a model's file, expected images: an HDF5 file, a folder or a "
            f"{FORMATS} image; were the model and the data swapped?"
        )
    else:
        require_file(path, f"an HDF5 file, a folder of images, or a {FORMATS} image")
        data = Dataset(read_image(path, shape)[None], source=str(path))
    if need_labels and data.labels is None:
        raise InputError(
            f"{path}: these images have no labels, expected an HDF5 file with `label`, or a "
            "folder with one sub-folder per class; a repair by pseudo-labels needs none."
        )
    return data
