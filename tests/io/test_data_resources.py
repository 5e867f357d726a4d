"""What reading data may take: claims are held against what is stored, before anything is read."""

import os
import zlib

import h5py
import numpy as np
import pytest
from PIL import Image

from badnet_defense.errors import InputError, TooLargeError
from badnet_defense.io import data_sha256, file_sha256, hdf5, read_images
from badnet_defense.io.files import FREE_SIZE, stored_size
from badnet_defense.sandbox import client as isolation

SHAPE = (40, 40, 3)


def packed(path, count, *, kind=np.uint8, fill=0):
    """A data set of one image (or one colour, which packs to a thousandth), packed only once."""
    chunk = np.ascontiguousarray(np.broadcast_to(np.asarray(fill, kind), (500, 3, 40, 40)))
    once = zlib.compress(chunk.tobytes())
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "data", (count, 3, 40, 40), kind, chunks=(500, 3, 40, 40), compression="gzip"
        )
        for start in range(0, count, 500):
            data.id.write_direct_chunk((start, 0, 0, 0), once)
    return path


def sparse(path, size, content=b""):
    """A file that claims `size` bytes and stores a few."""
    with open(path, "wb") as file:
        file.write(content)
        file.truncate(size)
    return path


def test_images_that_pack_like_a_bomb_are_refused_before_they_are_unpacked(tmp_path):
    """1.2 MB would take 144 MB here, and as much again in the process that asked."""
    image = np.random.default_rng(0).integers(0, 256, SHAPE[::-1], np.uint8)
    path = packed(tmp_path / "bomb.h5", 30_000, fill=image)
    assert path.stat().st_size < 2**21
    with pytest.raises(TooLargeError, match=r"claims 144,000,000 values and stores .* 100 times"):
        read_images(path, shape=SHAPE)


def test_few_images_may_pack_as_well_as_they_like(tmp_path):
    assert len(read_images(packed(tmp_path / "black.h5", 500), shape=SHAPE)) == 500


def test_images_that_do_not_fit_into_memory_are_refused(tmp_path, monkeypatch, with_limits):
    with_limits(isolate=False)
    monkeypatch.setattr(hdf5, "memory_limit", lambda: 10 * 2**20)
    path = packed(tmp_path / "whole.h5", 1500)
    read_images(path, shape=SHAPE)  # 7 MB
    with pytest.raises(TooLargeError, match="take 13 MB of memory, expected at most 10 MB"):
        read_images(packed(tmp_path / "many.h5", 3000), shape=SHAPE)
    fractions = packed(tmp_path / "fractions.h5", 1500, kind=np.float32, fill=0.25)
    with pytest.raises(TooLargeError, match="take 34 MB of memory"):  # as uint8 and as float32
        read_images(fractions, shape=SHAPE)


def test_a_folder_that_does_not_fit_into_memory_is_refused(tmp_path, monkeypatch, with_limits):
    """Small files, resized to what the net takes: only their number and the net's size count."""
    with_limits(isolate=False)
    monkeypatch.setattr("badnet_defense.io.folder.memory_limit", lambda: 2**20)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(TooLargeError, match="1 images of 2000x2000 take 11 MB"):
        read_images(tmp_path, shape=(2000, 2000, 3))


def test_a_sparse_file_is_neither_hashed_nor_waited_for(tmp_path):
    h5 = packed(tmp_path / "small.h5", 500).read_bytes()
    path = sparse(tmp_path / "sparse.h5", 2**42, h5)
    assert stored_size(path) < 2**20
    assert isolation.seconds_for(path) == isolation.SECONDS  # not 24 days
    for use in (file_sha256, data_sha256, lambda one: read_images(one, shape=SHAPE)):
        with pytest.raises(TooLargeError, match="claims 4,398,046,511,104 bytes, of which"):
            use(path)


def test_a_file_of_nothing_stores_nothing(tmp_path):
    hole = sparse(tmp_path / "hole.h5", 2 * FREE_SIZE)
    assert stored_size(hole) == 0
    with pytest.raises(TooLargeError, match="of which 0 lie on the disk"):
        file_sha256(hole)
    empty = sparse(tmp_path / "empty.h5", 0)
    assert stored_size(empty) == 0 and len(file_sha256(empty)) == 64


def test_file_systems_that_count_no_blocks_are_believed(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(range(256)) * 100)
    about = os.stat(path)
    assert stored_size(path) == about.st_size
    blocks = os.stat_result([*about[:10]], {"st_blocks": 0})
    monkeypatch.setattr(os, "stat", lambda *_: blocks)
    assert stored_size(path) == about.st_size


def test_what_is_not_read_of_a_folder_is_not_hashed(tmp_path):
    (tmp_path / "0").mkdir()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "0" / "a.png")
    before = data_sha256(tmp_path)
    sparse(tmp_path / "0" / "movie.avi", 2**42)
    (tmp_path / ".cache").mkdir()
    sparse(tmp_path / ".cache" / "b.png", 2**42)
    assert data_sha256(tmp_path) == before
    assert isolation.seconds_for(tmp_path) == isolation.SECONDS
    Image.fromarray(np.ones((4, 4, 3), np.uint8)).save(tmp_path / "0" / "b.png")
    assert data_sha256(tmp_path) != before


def test_reader_and_parent_together_stay_within_the_machine():
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 2 * isolation.memory_limit() <= max(2 * isolation.MIN_MEMORY, machine * 3 // 4)


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("name", ["net.h5", "weights.h5", "net.weights.h5", "net.keras"])
def test_a_model_where_data_is_expected_is_called_one(tmp_path, with_limits, name, isolate):
    with_limits(isolate=isolate)
    if name.endswith(".keras"):
        (tmp_path / name).write_bytes(b"PK")
    else:
        with h5py.File(tmp_path / name, "w") as file:
            if name == "net.h5":
                file.attrs["model_config"] = "{}"
            elif name == "weights.h5":
                file.attrs["layer_names"] = [b"conv"]
            else:
                file.create_group("layers")
    with pytest.raises(InputError, match=r"this is a model's file, expected images.*swapped\?"):
        read_images(tmp_path / name, shape=SHAPE)


def test_one_hot_labels_are_refused_by_name_where_labels_are_needed(tmp_path, caplog):
    path = packed(tmp_path / "hot.h5", 500)
    with h5py.File(path, "a") as file:
        file["label"] = np.eye(10)[np.arange(500) % 10]
    with pytest.raises(InputError, match=r"as one-hot labels have.*give labels.argmax\(axis=1\)"):
        read_images(path, shape=SHAPE, need_labels=True)
    images = read_images(path, shape=SHAPE, labels_matter=False)
    assert images.labels is None and "The labels are left out" in caplog.text
