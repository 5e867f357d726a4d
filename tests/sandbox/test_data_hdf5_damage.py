"""HDF5 files that are damaged, or that try to reach outside themselves, are refused."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from badnet_defense.errors import InputError
from badnet_defense.io import read_challenge_h5


def write(path, data, label=None):
    with h5py.File(path, "w") as file:
        file["data"] = data
        if label is not None:
            file["label"] = label
    return path


def pixels(count=4):
    return np.random.default_rng(0).integers(0, 256, (count, 3, 5, 6), np.uint8)


def refusal(path):
    with pytest.raises(InputError) as caught:
        read_challenge_h5(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message


def test_files_that_are_no_hdf5_files_are_refused(tmp_path):
    assert "no such file, expected an HDF5 file" in refusal(tmp_path / "absent.h5")
    assert "this is a folder, expected an HDF5 file" in refusal(tmp_path)
    for content in (b"", b"<!DOCTYPE html>" * 100):
        (tmp_path / "page.h5").write_bytes(content)
        assert "not an HDF5 file, expected one" in refusal(tmp_path / "page.h5")


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("packed", [None, "gzip"])
def test_truncated_files_are_refused(tmp_path, kept, packed):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=pixels(count=200), compression=packed)
        file["label"] = np.arange(200)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert "truncated or damaged, expected a complete one" in refusal(path)


def test_a_damaged_packed_block_is_refused(tmp_path):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", data=pixels(count=200), compression="gzip")
        offset = data.id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 2 : offset + 200] = b"\xff" * 198
    path.write_bytes(content)
    assert "truncated or damaged" in refusal(path)


def test_values_that_lie_in_other_files_are_refused(tmp_path):
    other = write(tmp_path / "other.h5", pixels(), np.arange(4))
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        file["data"] = h5py.ExternalLink(other, "data")
    assert "'data' is a link; expected its values in the file itself" in refusal(path)
    with h5py.File(path, "w") as file:
        file["there"] = pixels()
        file["data"] = h5py.SoftLink("/there")
    assert "'data' is a link" in refusal(path)
    with h5py.File(path, "w") as file:
        file["data"] = pixels()
        file["label"] = h5py.ExternalLink(other, "label")
    assert "'label' is a link" in refusal(path)
    with h5py.File(path, "w") as file:
        file["data"] = pixels()
        file["label"] = h5py.ExternalLink(tmp_path / "absent.h5", "label")
    assert "'label' is a link" in refusal(path)
    (tmp_path / "secret").write_bytes(bytes(360))
    with h5py.File(path, "w") as file:
        outside = [(tmp_path / "secret", 0, 360)]
        file.create_dataset("data", (4, 3, 5, 6), np.uint8, external=outside)
    assert "'data' is stored outside" in refusal(path)
    layout = h5py.VirtualLayout((4, 3, 5, 6), np.uint8)
    layout[:] = h5py.VirtualSource(other, "data", (4, 3, 5, 6))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("data", layout)
    assert "'data' is stored outside" in refusal(path)


def test_groups_and_empty_promises_are_refused(tmp_path):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        file.create_group("data")
    assert "`data` is a group, expected a dataset" in refusal(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (100, 3, 55, 47), np.float64, chunks=(1, 3, 55, 47))
    assert "`data` was never filled with values" in refusal(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (10**7, 3, 55, 47), np.float64, chunks=(1, 3, 55, 47))
    assert "'data' claims 620,400,000,000 bytes and stores 0" in refusal(path)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(position=st.integers(0, 2500), value=st.integers(0, 255))
def test_any_damaged_byte_ends_in_a_refusal_or_in_pictures(tmp_path_factory, position, value):
    path = write(tmp_path_factory.mktemp("fuzz") / "set.h5", pixels(), np.arange(4))
    content = bytearray(path.read_bytes())
    content[position % len(content)] = value
    path.write_bytes(content)
    try:
        assert read_challenge_h5(path).images.ndim == 4
    except InputError as error:
        assert str(error).startswith(f"{path}: ")
