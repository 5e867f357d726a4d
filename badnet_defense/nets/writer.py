"""Saves nets as the challenge's own files are: whole or weights-only legacy HDF5."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

import h5py

from badnet_defense.io.files import new_hdf5
from badnet_defense.nets.input_range import UNIT
from badnet_defense.nets.net import Net

if TYPE_CHECKING:
    import keras


def save_net(
    net: Net | keras.Model,
    path: str | PathLike[str],
    *,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Writes a net as a full legacy-HDF5 file, which `keras.models.load_model` opens as well.

    Args:
        net: a `Net`, whose input range the file records where it is not [0, 1], or a
            `keras.Model`.
        path: ends in `.h5`; the folder is made, and the file appears only when it is whole.
        attributes: for the file (`source_sha256`, `synthetic`, ..): strings and numbers.

    Examples:
        >>> import tempfile
        >>> from badnet_defense.nets import deep_id, read_net, save_net
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = f"{folder}/net.h5"
        ...     save_net(deep_id(classes=10), path, attributes={"synthetic": True})
        ...     net = read_net(path)
        >>> net.attributes["synthetic"]
        True
    """
    from keras.src.legacy.saving.legacy_h5_format import save_model_to_hdf5

    model = net
    if isinstance(net, Net):
        model = net.model
        if net.input_range != UNIT:
            attributes = {"input_range": str(net.input_range), **(attributes or {})}
    _write(path, attributes, lambda file: save_model_to_hdf5(model, file, include_optimizer=False))


def save_weights(
    model: keras.Model, path: str | PathLike[str], *, attributes: Mapping[str, Any] | None = None
) -> None:
    """Writes the weights of `model` alone, by layer name, as the challenge's `*_bd_weights.h5`.

    Examples:
        >>> import tempfile
        >>> from badnet_defense.nets import deep_id, read_net, save_weights
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_weights(deep_id(classes=10), f"{folder}/weights.h5")
        ...     net = read_net(f"{folder}/weights.h5")  # weights alone go onto DeepID
        >>> net.classes
        10
    """
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    _write(path, attributes, lambda file: save_weights_to_hdf5_group(file, model))


def _write(
    path: str | PathLike[str],
    attributes: Mapping[str, Any] | None,
    write: Callable[[h5py.File], Any],
) -> None:
    with new_hdf5(path) as file:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write(file)
        file.attrs.update(attributes or {})
