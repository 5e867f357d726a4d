"""One way to read pictures, whatever they come in."""

import os
from pathlib import Path

import numpy as np

from badnet_defense.data.files import require_file
from badnet_defense.data.folder import read_picture_folder
from badnet_defense.data.hdf5 import read_challenge_h5
from badnet_defense.data.images import LabelledImages
from badnet_defense.data.isolation import isolated
from badnet_defense.data.labels import check_labels
from badnet_defense.data.limits import current
from badnet_defense.data.picture import read_picture
from badnet_defense.errors import InputError, ReaderError


def read_images(path, *, shape, classes=None, need_labels=False):
    """Pictures of a challenge HDF5 file, of a folder with a sub-folder a class, or one picture.

    Args:
        path: a `.h5` or `.hdf5` file, a folder, or a PNG or JPEG file (one unlabelled picture).
        shape: the net's input (h, w, channels).
        classes: the net's class count N; labels must lie in 0..N-1.
        need_labels: refuse what has no labels.

    Returns:
        `LabelledImages` of n > 0 pictures (n, h, w, channels), labels None if there are none.

    Raises:
        InputError: the pictures cannot be read, or do not fit the net.
    """
    if not current().isolate:
        return read_images_here(path, shape=shape, classes=classes, need_labels=need_labels)
    asked = {"shape": list(shape), "classes": classes, "need_labels": need_labels}
    found, (pictures, *labels) = isolated("images", path, count=(1, 2), **asked)
    whole = not labels or (labels[0].shape == (len(pictures),) and labels[0].dtype == np.int64)
    labels = check_labels(labels[0], classes, path) if labels and whole and len(pictures) else None
    right = (
        whole
        and (labels is not None or not need_labels)
        and pictures.ndim == 4
        and pictures.shape[1:] == tuple(shape)
        and len(pictures) > 0
        and pictures.dtype in (np.uint8, np.float32)
        and (pictures.dtype == np.uint8 or (pictures.min() >= 0 and pictures.max() <= 255))
        and isinstance(found.get("synthetic"), bool)
    )
    if not right:
        raise ReaderError(f"{path}: its reader hands back no pictures.")
    return LabelledImages(pictures, labels, str(path), found["synthetic"])


def read_images_here(path, *, shape, classes, need_labels):
    """As `read_images`, in this process whatever the limits say."""
    if os.path.isdir(path):
        images = read_picture_folder(path, shape=shape, classes=classes)
    elif Path(path).suffix.lower() in (".h5", ".hdf5"):
        images = read_challenge_h5(path, classes=classes, shape=shape, need_labels=need_labels)
    else:
        require_file(path, "an HDF5 file, a folder of pictures, or a PNG or JPEG picture")
        images = LabelledImages(read_picture(path, shape)[None], source=str(path))
    if need_labels and images.labels is None:
        raise InputError(
            f"{path}: these pictures have no labels, expected an HDF5 file with `label`, or a "
            "folder with one sub-folder a class (fine_prune.py --pseudo-labels needs none)."
        )
    return images
