"""What is fuzzed: each reader of hostile files, and good files to begin with."""

import io
import os
import tempfile
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from badnet_defense.errors import InputError
from badnet_defense.guards.reading import read_guard
from badnet_defense.io.image_files import read_image
from badnet_defense.io.reading import read_images
from badnet_defense.io.trigger_labels import read_trigger_labels
from badnet_defense.nets import describe, read_net
from badnet_defense.nets import reader as loader
from badnet_defense.nets.parse import parse_model
from badnet_defense.sandbox.pipe import read_frame, write_frame
from badnet_defense.sandbox.serialize import spec_from_wire, spec_to_wire

SHAPE = (12, 10, 3)


def _configuration(path):
    """A configuration alone: in a `.keras` file its checksum would keep most changes out."""
    with loader.named_errors(path):
        parse_model(loader._parsed(Path(path).read_bytes()))


def _answer(path):
    """What a reader that was taken over may answer."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with loader.named_errors(path):
            plain, arrays = read_frame(handle, 2**20)
            if not isinstance(plain, dict) or "net" not in plain:
                raise InputError("no net.")
            spec_from_wire(plain["net"], arrays)
    finally:
        os.close(handle)


READERS = {
    "net.h5": read_net,
    "net.keras": read_net,
    "guard.keras": read_guard,
    "data.h5": lambda path: read_images(path, shape=SHAPE, classes=5),
    "picture.png": lambda path: read_image(path, SHAPE),
    "picture.jpg": lambda path: read_image(path, SHAPE),
    "picture.bmp": lambda path: read_image(path, SHAPE),
    "picture.ppm": lambda path: read_image(path, SHAPE),
    "picture.webp": lambda path: read_image(path, SHAPE),
    "labels.pkl": lambda path: read_trigger_labels(path, 4),
    "labels.npy": lambda path: read_trigger_labels(path, 4),
    "labels.csv": lambda path: read_trigger_labels(path, 4),
    "config.json": _configuration,
    "answer.frame": _answer,
}
"""Name of a file -> what reads it."""


def good_files():
    """{name: [contents of good files]}."""
    import json
    import pickle

    import keras
    from keras import layers

    from badnet_defense.guards.disagreement import build_guard
    from badnet_defense.nets import copy_model, save_net

    keras.utils.set_random_seed(0)

    def net(*body):
        return keras.Sequential([keras.Input(SHAPE), *body])

    nets = [
        net(
            layers.Conv2D(2, 3, activation="relu", name="conv"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(5, activation="softmax"),
        ),
        net(
            layers.DepthwiseConv2D(2),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.1),
            layers.Dense(5),
            layers.Softmax(),
        ),
    ]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        for place, one in enumerate(nets):
            save_net(one, path / "net.h5")
            one.save(path / "net.keras")
            one.save(path / "old.h5")
            for name in ("net.h5", "old.h5"):
                found.setdefault("net.h5", []).append((path / name).read_bytes())
            found.setdefault("config.json", []).append(one.to_json().encode())
            with h5py.File(path / "old.h5") as file:
                found["config.json"].append(file.attrs["model_config"].encode())
            plain, arrays = spec_to_wire(read_net(path / "net.h5"))
            handle = os.open(path / "answer", os.O_CREAT | os.O_WRONLY)
            write_frame(handle, json.loads(json.dumps({"net": plain})), arrays)
            os.close(handle)
            found.setdefault("answer.frame", []).append((path / "answer").read_bytes())
            (path / "answer").unlink()
            found.setdefault("net.keras", []).append((path / "net.keras").read_bytes())
            if not place:
                repaired = copy_model(one)
                repaired.set_weights([weights / 2 for weights in one.get_weights()])
                build_guard(describe(one), describe(repaired)).save(path / "guard.keras")
                found["guard.keras"] = [(path / "guard.keras").read_bytes()]
    pixels = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    for packing in ({}, {"compression": "gzip", "chunks": (2, 3, 12, 10)}):
        with io.BytesIO() as content:
            with h5py.File(content, "w") as file:
                data = np.stack([pixels] * 4).transpose(0, 3, 1, 2)
                file.create_dataset("data", data=data, **packing)
                file["label"] = np.arange(4)
            found.setdefault("data.h5", []).append(content.getvalue())
    for name, mode, kind in (
        ("picture.png", "RGB", "PNG"),
        ("picture.png", "P", "PNG"),
        ("picture.png", "I;16", "PNG"),
        ("picture.jpg", "RGB", "JPEG"),
        ("picture.jpg", "L", "JPEG"),
        ("picture.bmp", "RGB", "BMP"),
        ("picture.bmp", "P", "BMP"),
        ("picture.ppm", "RGB", "PPM"),
        ("picture.ppm", "L", "PPM"),
        ("picture.ppm", "I;16", "PPM"),
        ("picture.webp", "RGB", "WEBP"),
        ("picture.webp", "RGBA", "WEBP"),
    ):
        image = Image.fromarray(pixels)
        if mode == "I;16":
            image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
        with io.BytesIO() as content:
            (image if mode == "I;16" else image.convert(mode)).save(content, kind)
            found.setdefault(name, []).append(content.getvalue())
    truth = [True, False, True, True]
    found["labels.pkl"] = [pickle.dumps(truth, protocol) for protocol in range(6)]
    found["labels.csv"] = [b"label\nTrue\nFalse\n1\n0\n", b"1,0,1,0\n"]
    with io.BytesIO() as content:
        np.save(content, np.array(truth))
        found["labels.npy"] = [content.getvalue()]
    return found


def spoiled(content, others, rng):
    """A good file with a few bytes flipped, cut, repeated, or taken from another one."""
    found = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        if not found:
            break
        place, length = int(rng.integers(len(found))), int(rng.integers(1, 17))
        how = rng.integers(6)
        if how == 0:
            found[place] ^= 1 << int(rng.integers(8))
        elif how == 1:
            found[place : place + length] = rng.bytes(length)
        elif how == 2:
            found[place : place + length] = bytes([int(rng.choice([0, 255]))]) * length
        elif how == 3:
            del found[place : place + length]
        elif how == 4:
            found[place:place] = found[place : place + length]
        else:
            other = others[int(rng.integers(len(others)))]
            start = int(rng.integers(len(other)))
            found[place : place + 64] = other[start : start + 64]
    return bytes(found[: int(rng.integers(len(found) + 1))] if rng.uniform() < 0.05 else found)
