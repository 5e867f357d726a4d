"""Files that claim too much, or hold what no net has."""

import io
import struct
import zipfile
import zlib

import h5py
import numpy as np
from hostile_base import attack, h5_net, keras_net, kernel_name, kernel_out, layer, original

from badnet_defense.errors import (
    CodeInNetError,
    FilterInFileError,
    InputError,
    MemberError,
    ReaderError,
    TooLargeError,
    UnsafeNetError,
    WeightError,
)


@attack("a weight that claims 1 TB, never stored", TooLargeError)
def claimed_weight(folder, marker):
    def change(file):
        name, _ = kernel_out(file)
        file.create_dataset(name, (2**19, 2**19), "f4", chunks=(1024, 1024))

    return h5_net(folder, None, change)


@attack("a weight that unpacks to 1000 times its size", TooLargeError)
def packed_weight(folder, marker):
    def change(file):
        name, _ = kernel_out(file)
        packed = {"chunks": (2**11, 2**10), "compression": "gzip"}
        file.create_dataset(name, (2**12, 2**13), "f4", **packed)[:2048, :1024] = 0.0

    return h5_net(folder, None, change)


@attack("one chunk of a gigabyte", TooLargeError)
def huge_chunk(folder, marker):
    def change(file):
        name, _ = kernel_out(file)
        file.create_dataset(
            name, (2, 2), "f4", maxshape=(None, None), chunks=(2**14, 2**14), compression="gzip"
        )

    return h5_net(folder, None, change)


@attack("a layer that is configured to need 17 GB", TooLargeError)
def configured_size(folder, marker):
    def change(document):
        layer(document, 3)["config"]["units"] = 2**16
        layer(document, 1)["config"]["filters"] = 2**16

    return h5_net(folder, change)


@attack("a count beyond any net", UnsafeNetError)
def configured_count(folder, marker):
    def change(document):
        layer(document, 3)["config"]["units"] = 2**62

    return h5_net(folder, change)


@attack("a configuration nested a million deep", UnsafeNetError)
def deep_configuration(folder, marker):
    path = keras_net(folder, None, **{"config.json": b"[" * 10**6})
    return path


@attack("a configuration that unpacks to 64 MB", TooLargeError)
def zip_bomb_configuration(folder, marker):
    return keras_net(folder, None, **{"config.json": b" " * 2**26})


@attack("weights that unpack to 1000 times their size", TooLargeError)
def zip_bomb_weights(folder, marker):
    path = folder / "net.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        with zipfile.ZipFile(io.BytesIO(original("keras"))) as good:
            archive.writestr("metadata.json", good.read("metadata.json"))
            archive.writestr("config.json", good.read("config.json"))
        with archive.open("model.weights.h5", "w", force_zip64=True) as member:
            for _ in range(128):
                member.write(bytes(2**20))
    return path


@attack("a zip header that lies about the size", InputError)
def zip_lying_header(folder, marker):
    path = zip_bomb_weights(folder, marker)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")  # in the directory: 20 bytes on, packed and unpacked size
    content[entry + 24 : entry + 28] = struct.pack("<I", 2**20)
    path.write_bytes(content)
    return path


@attack("twenty thousand members", MemberError)
def many_members(folder, marker):
    return keras_net(folder, None, **{f"assets/{place}": b"" for place in range(20_000)})


@attack("a member with a path out of the folder", MemberError)
def path_traversal(folder, marker):
    return keras_net(folder, None, **{f"../../../../../../..{marker}": b"x"})


@attack("a member twice", MemberError)
def member_twice(folder, marker):
    import warnings

    path = keras_net(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("config.json", "{}")
    return path


@attack("weights that are no numbers", WeightError)
def not_finite(folder, marker):
    def change(file):
        file[kernel_name(file)][0, 0, 0, 0] = np.nan

    return h5_net(folder, None, change)


@attack("weights of another type", WeightError)
def objects_as_weights(folder, marker):
    def change(file):
        name, old = kernel_out(file)
        file.create_dataset(name, old.shape, h5py.string_dtype())

    return h5_net(folder, None, change)


@attack("an attribute of 100 MB", TooLargeError)
def huge_attribute(folder, marker):
    path = folder / "net.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs.create("model_config", np.zeros(100 * 2**20, "S1"))
    return path


@attack("twenty thousand references to one long text", TooLargeError)
def many_texts(folder, marker):
    path = folder / "net.h5"
    path.write_bytes(original("h5"))
    with h5py.File(path, "r+", libver="latest") as file:
        group = file["model_weights"]
        old = group["conv"]
        new = group.create_group("new", track_order=True)
        for name in old:
            group.copy(old[name], new, name)
        new.attrs.create("weight_names", ["a"] * 20_000, dtype=h5py.string_dtype())
        del group["conv"]
        group.move("new", "conv")
    return path


@attack("a chunk that unpacks to 1000 times a chunk", TooLargeError)
def inflating_chunk(folder, marker):
    def change(file):
        name, old = kernel_out(file)
        made = file.create_dataset(name, old.shape, "f4", chunks=old.shape, compression="gzip")
        made.id.write_direct_chunk((0,) * old.ndim, zlib.compress(bytes(2**22), 9))

    return h5_net(folder, None, change)


@attack("a chunk that is deflated twice", FilterInFileError)
def deflated_twice(folder, marker):
    def change(file):
        name, old = kernel_out(file)
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_chunk(old.shape)
        for _ in range(2):
            layout.set_deflate(9)
        space = h5py.h5s.create_simple(old.shape)
        made = h5py.h5d.create(file.id, name.encode(), h5py.h5t.IEEE_F32LE, space, layout)
        packed = zlib.compress(zlib.compress(bytes(2**26), 9), 9)
        made.write_direct_chunk((0,) * old.ndim, packed)

    return h5_net(folder, None, change)


@attack("a member packed by bzip2, which unpacks without a bound", MemberError)
def bzip2_member(folder, marker):
    path = keras_net(folder)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


@attack("HDF5 and zip at once, another net to each reader", UnsafeNetError)
def two_nets_in_one(folder, marker):
    path = folder / "net.h5"
    path.write_bytes(original("h5") + original("keras"))
    return path


@attack("a number of four hundred digits", UnsafeNetError)
def endless_number(folder, marker):
    def change(document):
        old = layer(document, 2)
        old["class_name"] = "Dropout"
        old["config"] = {"name": "rows", "rate": 10**400}

    return h5_net(folder, change)


@attack("a layer whose own steps need 200 GB", TooLargeError)
def large_between(folder, marker):
    def change(document):
        old = layer(document, 1)
        old["class_name"] = "SeparableConv2D"
        old["config"] = {"name": "conv", "filters": 1, "kernel_size": [3, 3],
                         "depth_multiplier": 2**16, "padding": "same"}  # fmt: skip
        layer(document, 0)["config"]["batch_shape"] = [None, 512, 512, 3]

    return h5_net(folder, change)


@attack("a refusal that would forge lines on the terminal", CodeInNetError)
def forged_lines(folder, marker):
    def change(document):
        layer(document, 2)["class_name"] = "X\n\x1b[2Jall nets are clean\n"

    return h5_net(folder, change)


@attack("a heap of texts that the HDF5 library walks for ever", ReaderError)
def endless_heap(folder, marker):
    path = folder / "net.h5"
    content = bytearray(original("h5"))
    place = content.index(b"GCOL") + 16
    while content[place : place + 2] != b"\0\0":
        # An entry: its number, 6 bytes, its length, and the contents.
        length = int.from_bytes(content[place + 8 : place + 16], "little")
        place += 16 + -(-length // 8) * 8
    content[place + 8 : place + 16] = bytes(8)  # what is free now ends where it begins
    path.write_bytes(content)
    return path
