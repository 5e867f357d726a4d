"""The heaps of an HDF5 file: walked by hand before the library does."""

import io
import struct

import h5py
import numpy as np
import pytest

from badnet_defense.errors import HeapInFileError, InputError, TooLargeError
from badnet_defense.io import read_images
from badnet_defense.sandbox import hdf5_heaps
from badnet_defense.sandbox.hdf5_heaps import check_heaps, open_hdf5


def written(texts):
    """The bytes of a file with a text of any length for each of these."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_dataset("texts", data=np.array(texts, object), dtype=h5py.string_dtype())
        file["numbers"] = np.arange(1000.0)
    return bytearray(content.getvalue())


def heap(*entries, size=None):
    """A heap of (number, length, bytes that follow) behind something else."""
    body = b"".join(
        struct.pack("<HHIQ", number, 1, 0, length) + bytes(after)
        for number, length, after in entries
    )
    size = 16 + len(body) if size is None else size
    return io.BytesIO(b"something GCOL\1\0\0\0" + struct.pack("<Q", size) + body)


@pytest.mark.parametrize("block", [2**24, 100])
def test_texts_of_many_heaps_are_read(block, monkeypatch, tmp_path):
    monkeypatch.setattr(hdf5_heaps, "_BLOCK", block)
    texts = ["x" * length for length in (0, 1, 7, 8, 9, 5000, 70_000)] * 20
    content = written(texts)
    assert content.count(b"GCOL") > 5
    with open_hdf5(io.BytesIO(content)) as file:
        assert [one.decode() for one in file["texts"][()]] == texts
    (tmp_path / "texts.h5").write_bytes(content)
    with open_hdf5(tmp_path / "texts.h5") as file:
        assert len(file["texts"]) == len(texts)


def test_walks_by_hand():
    check_heaps(heap((1, 5, 8), (2, 16, 16), (0, 24, 8)))  # the free part counts its header
    check_heaps(heap((1, 5, 8), (0, 16, 0)))
    check_heaps(heap((3, 0, 0), size=39))  # the last bytes are too few for a header
    for bad in [
        *(heap((0, 0, 0)), heap((0, 8, 0)), heap((1, 9, 8)), heap((1, 2**64 - 16, 8))),
        *(heap((1, 2**64 - 1, 8)), heap((1, 5, 8), (0, 17, 0)), heap((1, 5, 8), size=60)),
    ]:
        with pytest.raises(HeapInFileError, match="leads nowhere"):
            check_heaps(bad)


@pytest.mark.parametrize("block", range(8, 20))
def test_a_mark_across_two_blocks(block, monkeypatch):
    monkeypatch.setattr(hdf5_heaps, "_BLOCK", block)
    with pytest.raises(HeapInFileError):
        check_heaps(heap((0, 0, 0)))


def test_more_entries_than_any_net_has(monkeypatch):
    monkeypatch.setattr(hdf5_heaps, "MOST_ENTRIES", 2)
    check_heaps(heap((1, 0, 0), (2, 0, 0)))
    with pytest.raises(TooLargeError, match="more than 2 texts"):
        check_heaps(heap((1, 0, 0), (2, 0, 0), (3, 0, 0)))


@pytest.mark.parametrize("sizes", [(4, 8), (8, 4), (4, 4)])
def test_lengths_of_another_size(sizes, tmp_path):
    path = tmp_path / "small.h5"
    asked = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    asked.set_sizes(*sizes)
    h5py.h5f.create(bytes(path), fcpl=asked).close()
    for source in (path, io.BytesIO(path.read_bytes())):
        with pytest.raises(InputError, match="other than 8 bytes"):
            open_hdf5(source)


def test_pictures_with_an_endless_heap_are_refused(tmp_path):
    path = tmp_path / "data.h5"
    path.write_bytes(written(["one"]) + heap((0, 0, 0)).getvalue())
    with pytest.raises(HeapInFileError, match=r"data\.h5: its heap of texts"):
        read_images(path, shape=(12, 10, 3))
