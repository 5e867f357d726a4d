"""The heaps where an HDF5 file keeps texts of any length, walked before the library walks them.

An entry's claimed length is the way to the next one for libhdf5 (1.14.6, H5HGcache.c; found by
fuzzing): a length of nothing makes it walk for ever, in C, where no signal to Python ends it.
Layout: HDF5 File Format Specification 3.0, III.E, "Global Heap".
"""

import io
import struct

import h5py

from badnet_defense.errors import HeapInFileError, InputError, TooLargeError

MOST_ENTRIES = 2**20
"""Of all heaps together; a net's configuration is one, its layers' names one each."""
_HEAP = b"GCOL\x01\0\0\0"
_HEADER = 16
"""Bytes of a heap's own header, and of each entry's."""
_BLOCK = 2**20


def open_hdf5(source):
    """The `h5py.File` of a path or of an `io.BytesIO`, open for reading.

    Raises:
        HeapInFileError: a heap's entry leads nowhere, or out of it.
        InputError: lengths are not of 8 bytes: no HDF5 library writes that unasked, and the walk
            reads them so.
        TooLargeError: they are more than `MOST_ENTRIES`.
        OSError: it is damaged, as h5py says.
    """
    if isinstance(source, io.BytesIO):
        check_heaps(source)
    else:
        with open(source, "rb") as content:
            check_heaps(content)
    file = h5py.File(source, "r")
    if file.id.get_create_plist().get_sizes() != (8, 8):
        file.close()
        raise InputError("its lengths and offsets take other than 8 bytes; expected 8.")
    return file


def check_heaps(content):
    """Walks every heap of an HDF5 file; raises as `open_hdf5` does.

    Args:
        content: the file, open for reading bytes.
    """
    left = MOST_ENTRIES
    for start in _places(content, _HEAP):
        content.seek(start + len(_HEAP))
        (size,) = struct.unpack("<Q", content.read(8).ljust(8, b"\xff"))
        left = _walked(content, start + _HEADER, start + size, left)


def _places(content, mark):
    """Where `mark` stands in the file, block by block."""
    start, before = 0, b""
    content.seek(0)
    while block := content.read(_BLOCK):
        # A mark may lie across two blocks; the file's place is kept, since a walk moves it.
        joined, after = before + block, content.tell()
        at = joined.find(mark)
        while at >= 0:
            yield start - len(before) + at
            at = joined.find(mark, at + 1)
        start += len(block)
        before = joined[-(len(mark) - 1) :]
        content.seek(after)


def _walked(content, place, end, left):
    """Follows a heap's entries as the library does; how many more there may be."""
    while place + _HEADER <= end:
        content.seek(place)
        number, _, _, length = struct.unpack("<HHIQ", content.read(_HEADER).ljust(_HEADER, b"\xff"))
        # Of what is free the length counts its header; else the contents, filled up to 8 bytes.
        step = _HEADER + -(-length // 8) * 8 if number else length
        if not _HEADER <= step <= end - place:
            raise HeapInFileError("its heap of texts has an entry that leads nowhere.")
        place, left = place + step, left - 1
        if left < 0:
            raise TooLargeError(f"its heaps hold more than {MOST_ENTRIES:,} texts.")
    return left
