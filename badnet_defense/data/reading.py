"""One way to read pictures, whatever they come in."""

import os
from pathlib import Path

from badnet_defense.data.files import require_file
from badnet_defense.data.folder import read_picture_folder
from badnet_defense.data.hdf5 import read_challenge_h5
from badnet_defense.data.images import LabelledImages
from badnet_defense.data.picture import read_picture
from badnet_defense.errors import InputError


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
