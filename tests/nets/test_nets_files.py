"""Weights and files of hostile and broken nets: refused before anything is made of them."""

import io
import zipfile

import h5py
import numpy as np
import pytest
from hostile_base import kernel_out
from hostile_nets import plain_net, refused

from badnet_defense.errors import (
    InputError,
    LinkInFileError,
    MemberError,
    TooLargeError,
    ValuesElsewhereError,
)
from badnet_defense.nets import read_net, save_net, save_weights
from badnet_defense.nets import reader as loader


def replace_weight(path, make):
    """Replaces a stored array by `make(file, its name, its old values)`."""
    with h5py.File(path, "r+") as file:
        make(file, *kernel_out(file))


def test_weight_of_another_shape(h5):
    replace_weight(h5, lambda file, name, old: file.create_dataset(name, data=old[:2]))
    refused(h5, "'conv/kernel'", "(2, 3, 3, 4)", "expected (3, 3, 3, 4)")


@pytest.mark.parametrize("dtype", ["int32", "bool", "S4", "complex64"])
def test_weight_of_another_dtype(dtype, h5):
    replace_weight(h5, lambda file, name, old: file.create_dataset(name, data=old.astype(dtype)))
    refused(h5, "'conv/kernel'", "dtype", "expected floats")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weight_that_is_not_finite(value, h5):
    def spoil(file, name, old):
        old[0, 0, 0, 0] = value
        file[name] = old

    replace_weight(h5, spoil)
    refused(h5, "'conv/kernel'", "NaN or infinity")


def test_weight_that_is_too_large_for_float32(h5):
    with np.errstate(over="ignore"):
        replace_weight(
            h5, lambda file, name, old: file.create_dataset(name, data=np.full(old.shape, 1e300))
        )
        refused(h5, "'conv/kernel'", "infinity")


def test_missing_weight(h5):
    replace_weight(h5, lambda file, name, old: None)
    refused(h5, "missing")


def test_missing_layer(h5):
    with h5py.File(h5, "r+") as file:
        del file["model_weights/out"]
    refused(h5, "'out' is missing")


def test_missing_weight_names(h5):
    with h5py.File(h5, "r+") as file:
        del file["model_weights/conv"].attrs["weight_names"]
    refused(h5, "'conv' has 0 weights; expected 2")


def test_group_and_empty_array_in_place_of_a_weight(h5):
    replace_weight(h5, lambda file, name, old: file.create_group(name))
    refused(h5, "group", "kernel' is read by none of the net's layers")
    path = h5.with_name("empty.h5")
    save_net(plain_net(), path)
    replace_weight(path, lambda file, name, old: file.create_dataset(name, data=h5py.Empty("f4")))
    refused(path, "'conv/kernel' is no array")


def test_links_out_of_the_place(h5, tmp_path):
    """A link is refused without being followed: neither the other file nor a device is opened."""
    path = tmp_path / "other.h5"
    original = h5.read_bytes()
    for link in (
        h5py.SoftLink("/model_weights/out"),
        h5py.ExternalLink(str(path), "/kernel"),
        h5py.ExternalLink("/no/such/file.h5", "/kernel"),
    ):
        h5.write_bytes(original)
        replace_weight(h5, lambda file, name, old, link=link: file.__setitem__(name, link))
        refused(h5, "is a link", error=LinkInFileError)


def test_linked_groups_and_containers(h5, originals, tmp_path):
    link = h5py.ExternalLink(str(tmp_path / "other.h5"), "/")
    for place in ("model_weights", "model_weights/conv", "layers"):
        h5.write_bytes(originals["h5"])
        with h5py.File(h5, "r+") as file:
            if place in file:
                del file[place]
            file[place] = link
        refused(h5, "is a link", error=LinkInFileError)


def test_virtual_and_external_arrays(h5, originals, tmp_path):
    def virtual(file, name, old):
        layout = h5py.VirtualLayout(old.shape, "f4")
        layout[...] = h5py.VirtualSource(str(tmp_path / "other.h5"), "kernel", old.shape)
        file.create_virtual_dataset(name, layout)

    def external(file, name, old):
        place = [(str(tmp_path / "raw.bin"), 0, old.nbytes)]
        file.create_dataset(name, old.shape, "f4", external=place)

    for make in (virtual, external):
        h5.write_bytes(originals["h5"])
        replace_weight(h5, make)
        refused(h5, "stored outside", error=ValuesElsewhereError)


def test_weights_of_another_net_without_configuration(tmp_path):
    save_weights(plain_net(), tmp_path / "weights.h5")
    refused(tmp_path / "weights.h5", "no net's configuration", "DeepID", error=InputError)


def test_data_file_in_place_of_a_net(tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["data"], file["label"] = np.zeros((2, 3, 4, 4)), np.zeros(2)
    refused(tmp_path / "data.h5", "it is a data set and no net", "swapped", error=InputError)


@pytest.mark.parametrize("ending", ["h5", "keras"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.999])
def test_truncated_file(ending, share, originals, tmp_path):
    path = tmp_path / f"cut.{ending}"
    whole = originals[ending]
    path.write_bytes(whole[: int(share * len(whole))])
    refused(path, "expected", error=InputError)


def test_changed_bytes_are_refused(originals, tmp_path):
    # Only .keras: in a damaged .h5 the HDF5 library itself may loop for ever.
    rng = np.random.default_rng(0)
    path = tmp_path / "changed.keras"
    with zipfile.ZipFile(io.BytesIO(originals["keras"])) as archive:
        parts = [archive.getinfo(name) for name in ("config.json", "model.weights.h5")]
    for _ in range(60):
        content = bytearray(originals["keras"])
        part = parts[rng.integers(2)]
        start = part.header_offset + 30 + len(part.filename)  # 30 bytes of zip header, then these
        place = start + rng.integers(part.file_size)
        content[place] ^= rng.integers(1, 256)
        path.write_bytes(content)
        refused(path, "expected", error=InputError)


def test_no_net_at_all(tmp_path):
    path = tmp_path / "net.h5"
    refused(path, "no such file", error=InputError)
    refused(tmp_path, "folder", error=InputError)
    for content in (b"", b"hello", b"\x89PNG\r\n\x1a\n"):
        path.write_bytes(content)
        refused(path, "neither an HDF5 file nor a .keras file", error=InputError)


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_zip_without_its_parts(originals, tmp_path):
    path = tmp_path / "net.keras"
    with zipfile.ZipFile(io.BytesIO(originals["keras"])) as archive:
        parts = {name: archive.read(name) for name in ("config.json", "model.weights.h5")}
    for missing in parts:
        zipped(path, {name: content for name, content in parts.items() if name != missing})
        refused(path, f"holds no {missing}", error=InputError)
    zipped(path, {**parts, "model.weights.h5": b"no HDF5"})
    refused(path, "damaged", error=InputError)
    zipped(path, {**parts, "config.json": b"no JSON"})
    refused(path, "not JSON")


def test_zip_that_unpacks_to_too_much(tmp_path, monkeypatch, with_limits):
    with_limits(isolate=False)
    path = tmp_path / "bomb.keras"
    zipped(path, {"config.json": b" " * 10_000, "model.weights.h5": b""})
    assert path.stat().st_size < 1000
    monkeypatch.setattr(loader, "MAX_CONFIG_SIZE", 5_000)
    refused(path, "config.json unpacks from", error=TooLargeError)


def test_the_longer_form_of_a_zip_s_end_is_read_where_it_is_true(originals, tmp_path, monkeypatch):
    path = tmp_path / "net.keras"
    with zipfile.ZipFile(io.BytesIO(originals["keras"])) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)  # as in files over 2 GB
    zipped(path, parts)
    good = path.read_bytes()
    end = good.index(b"PK\x06\x06")
    assert read_net(path).classes == 5
    for place in (end, end + 40, end + 56 + 8):  # signature, size of the list, pointer to it
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        refused(path, "two end records differ", error=MemberError)


@pytest.mark.parametrize("tail", [b"x", b"x" * 100])
def test_a_zip_s_end_must_be_the_file_s(tail, originals, tmp_path):
    path = tmp_path / "net.keras"
    path.write_bytes(originals["keras"] + tail)
    refused(path, "not at the file's end", error=MemberError)
