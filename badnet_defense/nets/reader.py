"""Loads a net that nobody trusts: its file is read as data and no code from it ever runs.

`keras.models.load_model` and `clone_model` are never called on it. The configuration is parsed as
JSON and checked against an allow-list of plain layers, the weights are copied array by array after
checks of shape, dtype and finiteness, and the net is built anew from that.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py

from badnet_defense.errors import (
    InputError,
    MemberError,
    TooLargeError,
    UnsafeNetError,
    WeightError,
    naming,
)
from badnet_defense.io.files import file_sha256, require_file
from badnet_defense.nets.deepid import deep_id_net
from badnet_defense.nets.file_attributes import ATTRIBUTES, read_attributes
from badnet_defense.nets.hdf5_weights import (
    arrays_by_class,
    entries_of,
    find_arrays,
    first_dataset,
)
from badnet_defense.nets.input_range import InputRange, agreed_range
from badnet_defense.nets.net import Net
from badnet_defense.nets.parse import parse_model
from badnet_defense.nets.weights import expected_weights, with_weights
from badnet_defense.sandbox.client import isolated
from badnet_defense.sandbox.hdf5_rules import FREE, RATIO, attribute, is_there
from badnet_defense.sandbox.limits import current
from badnet_defense.sandbox.serialize import deserialize_net

MAX_CONFIG_SIZE = 16 * 2**20
"""Bytes; the configuration of a net of a thousand layers takes one megabyte."""
MAX_METADATA_SIZE = 2**16
"""Bytes; Keras writes its version and the date."""
MAX_DIRECTORY_SIZE = 4096
"""Bytes of a zip file's list of members; that of three takes two hundred."""
_ZIP_END = 56 + 20 + 22
_ZIP, _HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"
MEMBERS = ("metadata.json", "config.json", "model.weights.h5")
"""What Keras 3 writes into a `.keras` file of plain layers."""


def read_net(path: str | os.PathLike[str], input_range: InputRange | None = None) -> Net:
    """The net in `path` as Keras answers it, without TensorFlow.

    Args:
        path: `.h5` of Keras 1, 2 or 3 (a whole net, or weights only, which go onto DeepID), or
            `.keras`.
        input_range: the pixel values that the net takes for black and for white; default: the range
            recorded in the file (a repair records it), else [0, 1].

    Raises:
        InputError: there is no such file, it is no net, or it records another range than
            `input_range`.
        UnsafeNetError: it is made of more than plain layers and plain weights; the message names
            the layer or the weight.

    Examples:
        >>> import tempfile
        >>> from badnet_defense.nets import deep_id, read_net, save_net
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_net(deep_id(classes=10), f"{folder}/net.h5")
        ...     net = read_net(f"{folder}/net.h5")
        >>> net.classes, str(net.input_range)
        (10, '0,1')
    """
    path = require_file(path, "a Keras net (.h5 or .keras)")
    check_size(path)
    digest = file_sha256(path)
    if current().isolate:
        found, arrays = isolated("net", path, memory=memory_for(path))
        with named_errors(path):
            net = deserialize_net(found.get("net"), arrays)
    else:
        net = read_net_in_process(path)
    check_unchanged(path, digest, net.attributes.get("file_sha256"))
    recorded = net.attributes.get("input_range")
    stored = None if recorded is None else InputRange.parse(recorded)
    attributes = {**net.attributes, "file": str(path)}
    range_ = agreed_range(stored, input_range, path)
    return replace(net, attributes=attributes, input_range=range_)


def read_net_in_process(path: str | os.PathLike[str]) -> Net:
    """As `read_net`, in this process whatever the limits say, and without the file's own name."""
    with named_errors(path):
        content, digest = file_content(path)
        as_zip, as_hdf5 = zipfile.is_zipfile(io.BytesIO(content)), _is_hdf5(content)
        if as_zip and as_hdf5:  # another program would take it for the other one
            raise UnsafeNetError("it is an HDF5 file and a .keras file at once; expected one net.")
        if as_zip and content.startswith(_ZIP):
            net = _read_keras_zip(content)
        elif as_hdf5 and content.startswith(_HDF5):
            net = _read_hdf5(content)
        else:
            raise InputError("it is neither an HDF5 file nor a .keras file; expected a Keras net.")
        return replace(net, attributes={**net.attributes, "file_sha256": digest})


def file_content(path: str | os.PathLike[str]) -> tuple[bytes, str]:
    """(bytes, their SHA-256) of a net's file: what is parsed is what was hashed."""
    most = current().max_net_size
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size  # a read sets aside as much as it is asked for
        content = file.read(min(size, most) + 1)
    if len(content) > most:
        raise TooLargeError(f"it takes more than {most:,} bytes; expected at most as many.")
    return content, hashlib.sha256(content).hexdigest()


def check_unchanged(path: str | os.PathLike[str], before: str | None, read: str | None) -> None:
    """Refuses a file whose SHA-256 `before` it was read is not that of what was read."""
    if before != read:
        raise InputError(f"{path}: it was changed while it was read; expected one net, try again.")


def check_size(path: Path) -> None:
    """Refuses a file that is larger than a net's may be, or that claims more than it stores."""
    about, most = path.stat(), current().max_net_size
    if about.st_size > most:
        raise TooLargeError(
            f"{path}: it takes {about.st_size:,} bytes, expected at most {most:,}; raise the "
            "limit max_net_size for a larger net."
        )
    stored = getattr(about, "st_blocks", about.st_size) * 512
    if about.st_size > FREE and about.st_size > RATIO * stored:
        raise TooLargeError(
            f"{path}: it claims {about.st_size:,} bytes and stores {stored:,}; expected a net that "
            "is all there."
        )


def memory_for(path: Path) -> int:
    """Bytes that a reader of a net or a guard may take, by what its file may unpack to."""
    stored, most = path.stat().st_size, current().max_net_size
    return 2**30 + stored + min(4 * most, 2 * RATIO * stored)


def _is_hdf5(content: bytes) -> bool:
    """True where an HDF5 library finds a file in these bytes: at 0, 512, 1024, 2048 and so on."""
    place = 0
    while place < len(content):
        if content.startswith(_HDF5, place):
            return True
        place = max(2 * place, 512)
    return False


# What h5py and zipfile raise on files that were cut off, changed, or made to trip them up.
_DAMAGE = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError),
    *(KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError),
)


@contextmanager
def named_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Puts the file's name before every refusal; a damaged file is one too."""
    try:
        with naming(path):
            yield
    except InputError:
        raise
    except _DAMAGE as error:
        raise InputError(
            f"{path}: it is damaged or cut off ({str(error)[:100]}); expected a whole net."
        ) from None


def _read_hdf5(content: bytes) -> Net:
    with h5py.File(io.BytesIO(content), "r") as file:
        document = attribute(file, "model_config")
        if document is None:
            return _read_weights_only(file)
        net, root = parse_model(_parsed(document))
        net = with_weights(net, find_arrays(net, root, file, ATTRIBUTES))
        return replace(net, attributes=read_attributes(file))


def _read_weights_only(file: h5py.File) -> Net:
    """Weights without a configuration: the challenge's `*_bd_weights.h5`, made for DeepID."""
    if is_there(file, "data"):
        raise InputError(
            "it holds `data`, so it is a data set and no net; expected a net here: are data and "
            "model swapped?"
        )
    try:
        bias = _output_bias(file)
    except WeightError as error:
        raise InputError(
            f"it holds no net's configuration, and its weights are not DeepID's ({error})"
        ) from None
    net = deep_id_net(classes=bias.shape[0])
    arrays = find_arrays(net, entries_of(net), file, ATTRIBUTES)
    return replace(with_weights(net, arrays), attributes=read_attributes(file))


def _output_bias(file: h5py.File) -> Any:
    """The last bias of DeepID, whose length is the class count, in either layout of weights."""
    places = ("output/output/bias", "layers/dense_2/vars/1", "output/output/bias:0")
    bias = first_dataset(file, places)
    if len(bias.shape) != 1 or not 2 <= bias.shape[0] <= 2**16:
        raise WeightError(f"its output bias has the shape {bias.shape}.")
    return bias


def _read_keras_zip(content: bytes) -> Net:
    with opened_keras_zip(content) as (document, file, _):
        net, root = parse_model(document)
        counts = {name: len(weights) for name, weights in expected_weights(net).items()}
        net = with_weights(net, arrays_by_class(root, counts, file, ATTRIBUTES))
        return replace(net, attributes=read_attributes(file))


@contextmanager
def opened_keras_zip(content: bytes) -> Iterator[tuple[Any, h5py.File, Any]]:
    """(configuration as parsed JSON, open weights `h5py.File`, metadata) of a `.keras` file.

    Args:
        content: the file's bytes.

    Raises:
        MemberError, TooLargeError: see `_check_members` and `_member`.
    """
    _check_directory(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        _check_members(archive.infolist())
        document = _parsed(_member(archive, "config.json", MAX_CONFIG_SIZE))
        weights = _member(archive, "model.weights.h5", current().max_net_size)
        metadata = {}
        if "metadata.json" in archive.namelist():
            metadata = _parsed(_member(archive, "metadata.json", MAX_METADATA_SIZE))
    with h5py.File(io.BytesIO(weights), "r") as file:
        yield document, file, metadata


def _check_directory(content: bytes) -> None:
    """Refuses a list of members that is longer than Keras' before `zipfile` reads all of it."""
    start = max(len(content) - _ZIP_END, 0)
    end = content[start:]
    # The end record: its signature, the size of the list, and no comment behind it.
    listed = int.from_bytes(end[-10:-6], "little")
    if end[-22:-18] != b"PK\x05\x06" or end[-2:] != b"\0\0" or listed > MAX_DIRECTORY_SIZE:
        raise MemberError(
            f"its list of members takes {listed:,} bytes or is not at the file's end; expected at "
            f"most {MAX_DIRECTORY_SIZE:,} there, as Keras 3 saves it."
        )
    # Files over 2 GB have a longer form of it too, and a pointer to that; zipfile believes these.
    if end[-42:-38] == b"PK\x06\x07":
        place, size = (int.from_bytes(one, "little") for one in (end[-34:-26], end[40:48]))
        if end[:4] != b"PK\x06\x06" or (place, size) != (start, listed):
            raise MemberError("its two end records differ; expected a .keras file of Keras 3.")


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    """Refuses any other member than `MEMBERS`, once each; nothing is ever unpacked to a path."""
    names = [one.filename for one in members]
    odd = [name for name in names if name not in MEMBERS]
    if odd or len(names) > len(set(names)):
        raise MemberError(
            f"it holds {len(names)} members, among them {(odd or names)[0][:60]!r}; expected "
            f"{', '.join(MEMBERS)}, once each."
        )
    plain = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others unpack without a bound
    if any(one.compress_type not in plain or one.flag_bits & 1 for one in members):
        raise MemberError("its members are packed strangely or encrypted; expected deflate.")


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    if name not in archive.namelist():
        raise MemberError(f"it holds no {name}; expected a .keras file as Keras 3 saves it.")
    about = archive.getinfo(name)
    claimed, stored = about.file_size, about.compress_size
    if claimed > limit or (claimed > FREE and claimed > RATIO * stored):
        raise TooLargeError(
            f"its {name} unpacks from {stored:,} to {claimed:,} bytes; expected at most {limit:,} "
            f"and {RATIO} times as many."
        )
    with archive.open(name) as opened:  # read with the cap too: a header may lie about the size
        content = opened.read(limit + 1)
    if len(content) > limit:
        raise TooLargeError(f"its {name} unpacks to more than {limit:,} bytes.")
    return content


def _parsed(document: Any) -> Any:
    if not isinstance(document, str | bytes):
        raise UnsafeNetError("its configuration is no text; expected a Keras model as JSON.")
    if len(document) > MAX_CONFIG_SIZE:
        raise TooLargeError(f"its configuration is larger than {MAX_CONFIG_SIZE >> 20} MB.")
    try:
        return json.loads(document)
    except (ValueError, RecursionError, TypeError):
        raise UnsafeNetError("its configuration is not JSON; expected a Keras model.") from None
