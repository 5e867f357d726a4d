"""Files that try each published attack on whoever loads a Keras net; payloads only leave a marker.

`ATTACKS` maps a name to `Attack`: the class it stands for, a function (folder, marker) that
writes the file and gives its path, and the project's error that must refuse it. Most start from
`original(ending)`, a good net.
"""

import io
import json
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import h5py


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


def kernel_out(file):
    """Takes the convolution's kernel out of an open file; (its path, its old values)."""
    name = kernel_name(file)
    values = file[name][...]
    del file[name]
    return name, values


def kernel_name(file):
    """The path of the convolution's kernel."""
    names = []
    file["model_weights/conv"].visititems(
        lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None
    )
    return "model_weights/conv/" + next(name for name in names if "kernel" in name)
