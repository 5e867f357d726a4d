"""What is asked of every HDF5 dataset before one value of it is read.

An HDF5 file can point into other files (soft, external and user-defined links, external storage,
virtual datasets), can name a filter that the library would load as a plug-in, and can claim any
number of values in a few bytes. All of that is refused; only what lies in the file itself is read.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

import h5py

from badnet_defense.errors import (
    FilterInFileError,
    LinkInFileError,
    TooLargeError,
    ValuesElsewhereError,
)

LARGEST_CHUNK = 256 * 2**20
"""Bytes; a chunk is unpacked as a whole, whatever part of it is asked for."""
RATIO = 1000
"""Claimed to stored bytes; deflate itself reaches 1032, a net's weights never 10."""
FREE = 64 * 2**20
"""Bytes that may be claimed at any ratio: too few to harm."""
SLACK = 4096
"""Bytes that a packed chunk may be larger by than what is in it."""
MOST_TEXTS = 2**12
"""Entries of an attribute; texts and notes are one, the names of a layer's weights a few."""
LARGEST_ATTRIBUTE = 16 * 2**20
_FILTERS = {
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
}


def member(group: Any, name: str) -> Any:
    """The group or dataset `name` (a path below `group`), or None where there is none.

    Each link on the way is looked at before it is followed: to ask h5py whether a name is there
    would open what an external link points to.

    Raises:
        LinkInFileError: a link on the way is none into the file itself.
        ValuesElsewhereError, FilterInFileError, TooLargeError: see `check_dataset`.
    """
    node = group
    for part in name.split("/"):
        if not isinstance(node, h5py.Group) or not is_there(node, part):
            return None
        kind = node.id.links.get_info(part.encode()).type
        if kind != h5py.h5l.TYPE_HARD:
            raise LinkInFileError(
                f"{name[:80]!r} is a link; expected its values in the file itself."
            )
        node = node[part]
    if isinstance(node, h5py.Dataset):
        check_dataset(node, name)
    return node


def is_there(group: Any, name: str) -> bool:
    """True where a link of that name is in `group`, without following it."""
    return bool(name) and name != "." and group.id.links.exists(name.encode())


def check_dataset(dataset: Any, name: str) -> None:
    """Refuses a dataset whose values are elsewhere, packed strangely, or more than are stored.

    Raises:
        ValuesElsewhereError, FilterInFileError, TooLargeError.
    """
    if dataset.is_virtual or dataset.external:
        raise ValuesElsewhereError(
            f"{name[:80]!r} is stored outside; expected it in the file itself."
        )
    layout = dataset.id.get_create_plist()
    filters = [layout.get_filter(place)[0] for place in range(layout.get_nfilters())]
    odd = [one for one in filters if one not in _FILTERS or filters.count(one) > 1]
    if odd:
        raise FilterInFileError(
            f"{name[:80]!r} is packed by the filter {odd[0]}, or by one twice; expected gzip, "
            "shuffle or none."
        )
    if dataset.shape is None:
        return
    claimed = math.prod(dataset.shape) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    if claimed > FREE and claimed > RATIO * stored:
        raise TooLargeError(
            f"{name[:80]!r} claims {claimed:,} bytes and stores {stored:,}; expected at most "
            f"{RATIO} times as many."
        )
    if dataset.chunks and math.prod(dataset.chunks) * dataset.dtype.itemsize > LARGEST_CHUNK:
        raise TooLargeError(
            f"{name[:80]!r} comes in chunks of {dataset.chunks}; expected at most "
            f"{LARGEST_CHUNK >> 20} MB each."
        )
    if h5py.h5z.FILTER_DEFLATE in filters:
        _check_chunks(dataset, name)


def _check_chunks(dataset: Any, name: str) -> None:
    """Refuses chunks that unpack to more than a chunk: the library would unpack them to the end."""
    most = math.prod(dataset.chunks) * dataset.dtype.itemsize
    for place in range(dataset.id.get_num_chunks()):
        about = dataset.id.get_chunk_info(place)
        unpacked = b""
        if about.size <= most + most // 100 + SLACK:
            _, packed = dataset.id.read_direct_chunk(about.chunk_offset)
            unpacked = zlib.decompressobj().decompress(packed, most + SLACK)
        if not unpacked or len(unpacked) >= most + SLACK:
            raise TooLargeError(
                f"{name[:80]!r} has a chunk of {about.size:,} bytes that does not unpack to the "
                f"{most:,} of a chunk; expected whole values."
            )


def attribute(node: Any, name: str, default: Any = None) -> Any:
    """The attribute `name` of a group or file, or `default`.

    Raises:
        TooLargeError: it takes more than `LARGEST_ATTRIBUTE` bytes.
    """
    if name not in node.attrs:
        return default
    found = h5py.h5a.open(node.id, name.encode())
    if 0 in found.shape:  # an empty list, whose size the library cannot tell
        return node.attrs[name]
    size, count = found.get_storage_size(), 1
    if found.dtype.kind == "O":  # texts of any length, of which the size counts the references
        count = math.prod(found.shape or (1,))
    if count > MOST_TEXTS:  # each may point to the same long text, which each would copy
        raise TooLargeError(f"its attribute {name!r} has {count:,} entries.")
    if size > LARGEST_ATTRIBUTE:
        raise TooLargeError(
            f"its attribute {name!r} takes {size:,} bytes; expected at most {LARGEST_ATTRIBUTE:,}."
        )
    return node.attrs[name]
