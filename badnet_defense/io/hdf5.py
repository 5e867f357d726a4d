"""The challenge's HDF5 files: `data` (n, channels, h, w) with pixels 0-255, and `label` (n,)."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from badnet_defense.errors import InputError, TooLargeError, naming
from badnet_defense.io.dataset import Dataset
from badnet_defense.io.files import new_hdf5, require_file
from badnet_defense.io.labels import check_label_shape, check_labels
from badnet_defense.io.pixels import check_not_scaled, check_number_dtype, check_pixels, is_whole
from badnet_defense.sandbox.client import memory_limit
from badnet_defense.sandbox.hdf5_rules import FREE, attribute, is_there, member

_log = logging.getLogger("badnet_defense")

_BROKEN = (OSError, RuntimeError, KeyError, ValueError, TypeError, zlib.error)  # from h5py
_BLOCK_IMAGES = 512
_BLOCK_BYTES = 4 << 20  # what is read at once stays small, however large the images are
MAX_DATA_SIZE = 32 * 2**30  # bytes that a data set may claim: 2.6 million of the challenge's images
MAX_IMAGE_RATIO = 100
"""Values of images to stored bytes: photos of signs and faces reach 1.2, MNIST's digits on black
4.7, and what is made to unpack to much 1032."""
_CHUNK_BYTES = 64 << 20  # unless the file is packed in larger pieces, up to this


def read_challenge_h5(
    path: str | PathLike[str],
    *,
    classes: int | None = None,
    shape: tuple[int, int, int] | None = None,
    need_labels: bool = False,
    labels_matter: bool = True,
) -> Dataset:
    """Images and labels of a challenge HDF5 file, held as `uint8` where the values allow it.

    The file is read block by block: beside the result, only a few megabytes are in memory. One
    value that is not whole is enough to make the result `float32` (still 0-255).

    Args:
        path: the file; `data` (n, channels, h, w) of any integer or float dtype, pixels 0-255,
            and `label` (n,) or (n, 1), which may be missing.
        classes: the net's class count N; labels must lie in 0..N-1.
        shape: the net's input (h, w, channels), which the images must have.
        need_labels: refuse a file without `label`.
        labels_matter: False leaves out a `label` that holds no class numbers, such as one-hot rows,
            and says so; True refuses it.

    Returns:
        `Dataset` with images (n, h, w, channels); labels are None if there are none.

    Raises:
        InputError: the file is missing, damaged, or holds something else.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> from badnet_defense.io import Dataset, read_challenge_h5, write_challenge_h5
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     data = Dataset(np.zeros((2, 6, 4, 3), "uint8"), [1, 0])
        ...     write_challenge_h5(f"{folder}/set.h5", data)
        ...     data = read_challenge_h5(f"{folder}/set.h5", classes=2, shape=(6, 4, 3))
        >>> data.images.shape, data.labels.tolist()
        ((2, 6, 4, 3), [1, 0])
    """
    path = require_file(path, "an HDF5 file with `data` and `label`")
    try:
        if not h5py.is_hdf5(path):
            raise InputError(f"{path}: this is not an HDF5 file, expected one with `data`.")
        with naming(path):
            file = h5py.File(path, "r")
        with file:
            data = _plain_dataset(file, "data", path)
            _check_shape(data, shape, path)
            _check_memory(data, path)
            labels = _read_labels(file, len(data), classes, need_labels, labels_matter, path)
            with naming(path):
                synthetic = bool(np.all(attribute(file, "synthetic", False)))
            return Dataset(_read_images(data, path), labels, str(path), synthetic)
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(
            f"{path}: these images do not fit into memory, expected fewer or smaller ones."
        ) from error
    except _BROKEN as error:
        raise InputError(
            f"{path}: this HDF5 file is truncated or damaged, expected a complete one; fetch or "
            f"write it again (h5py says: {error})."
        ) from error


def write_challenge_h5(
    path: str | PathLike[str], data: Dataset, *, attributes: Mapping[str, Any] | None = None
) -> None:
    """Writes a data set as a challenge HDF5 file, complete or not at all.

    Args:
        path: the file to write; one that is there is replaced when the new one is complete.
        data: `Dataset`; `data` becomes (n, channels, h, w) of the images' dtype, and
            `label` (n,) `int64` is written where there are labels.
        attributes: further attributes of the file's root, name -> value; `synthetic` is set where
            `data.synthetic` is.

    Examples:
        >>> import tempfile
        >>> import h5py
        >>> import numpy as np
        >>> from badnet_defense.io import Dataset, write_challenge_h5
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     data = Dataset(np.zeros((2, 6, 4, 3), "uint8"), [1, 0])
        ...     write_challenge_h5(f"{folder}/set.h5", data)
        ...     with h5py.File(f"{folder}/set.h5") as file:
        ...         file["data"].shape, file["label"][()].tolist()
        ((2, 3, 6, 4), [1, 0])
    """
    count, height, width, channels = data.images.shape
    with new_hdf5(path) as file:
        shape = (count, channels, height, width)
        stored = file.create_dataset("data", shape, data.images.dtype)
        for rows in _blocks(stored):
            stored[rows] = np.ascontiguousarray(data.images[rows].transpose(0, 3, 1, 2))
        if data.labels is not None:
            file.create_dataset("label", data=data.labels)
        if data.synthetic:
            file.attrs["synthetic"] = True
        file.attrs.update(attributes or {})


def _plain_dataset(file: h5py.File, key: str, path: Path) -> h5py.Dataset:
    """The dataset `key` by the rules of `hdf5_rules`: its values lie in this very file."""
    with naming(path):
        dataset = member(file, key)
    if dataset is None and key == "data" and _is_of_a_model(file):
        raise InputError(
            f"{path}: this is a model's file, expected images (`data` and `label`); were the model "
            "and the data swapped?"
        )
    if dataset is None:
        found = ", ".join(sorted(file)[:8])[:80] or "nothing"
        raise InputError(f"{path}: `{key}` is missing, expected `data` and `label`; found {found}.")
    if not isinstance(dataset, h5py.Dataset):
        raise InputError(f"{path}: `{key}` is a group, expected a dataset.")
    check_number_dtype(dataset.dtype, f"`{key}` has", path)
    if dataset.size and not dataset.id.get_storage_size():
        raise InputError(f"{path}: `{key}` was never filled with values, expected some.")
    if dataset.size and dataset.size * dataset.dtype.itemsize > MAX_DATA_SIZE:
        raise TooLargeError(
            f"{path}: `{key}` claims {dataset.size * dataset.dtype.itemsize:,} bytes, expected at "
            f"most {MAX_DATA_SIZE:,}; take a part of it."
        )
    return dataset


def _is_of_a_model(file: h5py.File) -> bool:
    """True where an HDF5 file holds what Keras' files of models, or of weights alone, hold."""
    noted = any(name in file.attrs for name in ("model_config", "layer_names", "keras_version"))
    return noted or is_there(file, "layers")


def _check_memory(data: h5py.Dataset, path: Path) -> None:
    """Refuses images that are far more than what is stored of them, or than memory holds.

    They are held as `uint8`: one byte for each value.
    """
    stored = data.id.get_storage_size()
    if data.size > FREE and data.size > MAX_IMAGE_RATIO * stored:
        raise TooLargeError(
            f"{path}: `data` claims {data.size:,} values and stores {stored:,} bytes, expected at "
            f"most {MAX_IMAGE_RATIO} times as many; images do not pack that well."
        )
    _check_fits(data.size, path)


def _check_fits(needed: int, path: Path) -> None:
    """Refuses to hold more bytes than a reader may take."""
    most = memory_limit()
    if needed > most:
        raise TooLargeError(
            f"{path}: these images take {needed >> 20:,} MB of memory, expected at most "
            f"{most >> 20:,} MB on this machine; take a part of them."
        )


def _check_shape(data: h5py.Dataset, shape: tuple[int, int, int] | None, path: Path) -> None:
    """Refuses images that are none, or that the net cannot take."""
    if data.ndim != 4:
        raise InputError(f"{path}: `data` has shape {data.shape}, expected (n, channels, h, w).")
    if 0 in data.shape:
        raise InputError(f"{path}: `data` has shape {data.shape}: no images, expected some.")
    channels, height, width = data.shape[1:]
    allowed = (1, 3) if shape is None else (shape[2],)
    if channels not in allowed:
        hint = "; (n, h, w, channels) must be transposed" if width in allowed else ""
        expected = " or ".join(map(str, allowed))
        raise InputError(
            f"{path}: `data` has shape {data.shape}, so {channels} channels, expected {expected} "
            f"in (n, channels, h, w){hint}."
        )
    if shape is not None and (height, width) != tuple(shape[:2]):
        raise InputError(
            f"{path}: images are {height}x{width} (height x width), but the net takes "
            f"{shape[0]}x{shape[1]}. Is this the net's own data set?"
        )


def _read_labels(
    file: h5py.File,
    count: int,
    classes: int | None,
    need_labels: bool,
    labels_matter: bool,
    path: Path,
) -> np.ndarray | None:
    """(count,) `int64`, or None where the file has none, or none of use, and none are needed."""
    if not is_there(file, "label") and not need_labels:
        return None
    try:
        label = _plain_dataset(file, "label", path)
        check_label_shape(label.shape, count, path)
        return check_labels(label[()].reshape(-1), classes, path)
    except InputError as error:
        if need_labels or labels_matter:
            raise
        _log.warning("%s The labels are left out; the images are read without them.", error)
        return None


def _read_images(data: h5py.Dataset, path: Path) -> np.ndarray:
    """(n, h, w, channels) `uint8`, or `float32` once a block holds a value that is not whole."""
    count, channels, height, width = data.shape
    images, high = np.empty((count, height, width, channels), np.uint8), 0.0
    for rows in _blocks(data):
        block = data[rows]
        high = max(high, check_pixels(block, path))
        if images.dtype == np.uint8 and not is_whole(block):
            _check_fits(5 * data.size, path)  # both copies, for a moment
            whole, images = images, np.empty(images.shape, np.float32)
            images[: rows.start] = whole[: rows.start]
            del whole
        images[rows] = block.transpose(0, 2, 3, 1)
    check_not_scaled(data.dtype, high, path)
    return images


def _blocks(data: h5py.Dataset) -> list[slice]:
    """Slices over the images of `data`, few enough at once to stay within `_BLOCK_BYTES`.

    A compressed file is read in steps of its own chunks, so that none is unpacked many times.
    """
    image_bytes = int(np.prod(data.shape[1:])) * data.dtype.itemsize
    step = max(1, min(_BLOCK_IMAGES, _BLOCK_BYTES // image_bytes))
    if data.chunks and data.chunks[0] * image_bytes <= _CHUNK_BYTES:
        step = -(-step // data.chunks[0]) * data.chunks[0]
    return [slice(start, min(start + step, len(data))) for start in range(0, len(data), step)]
