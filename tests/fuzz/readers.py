"""What is fuzzed: each reader of hostile files, and good files to begin with."""

import io
import json
import os
import pickle
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
from badnet_defense.sandbox.serialize import deserialize_net, serialize_net

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
            deserialize_net(plain["net"], arrays)
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
    with tempfile.TemporaryDirectory() as folder:
        found = _net_files(Path(folder))
    pixels = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    return {
        **found,
        "data.h5": list(_data_files(pixels)),
        **_image_files(pixels),
        **_label_files([True, False, True, True]),
    }


def _small_models():
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    plain = [
        layers.Conv2D(2, 3, activation="relu", name="conv"),
        layers.BatchNormalization(),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(5, activation="softmax"),
    ]
    depthwise = [
        layers.DepthwiseConv2D(2),
        layers.GlobalAveragePooling2D(),
        layers.Dropout(0.1),
        layers.Dense(5),
        layers.Softmax(),
    ]
    return [keras.Sequential([keras.Input(SHAPE), *body]) for body in (plain, depthwise)]


def _net_files(folder):
    """Nets in each format, configurations, what a reader answers, and a guard."""
    from badnet_defense.guards.disagreement import build_guard
    from badnet_defense.nets import copy_model, save_net

    found = {name: [] for name in ("net.h5", "config.json", "answer.frame", "net.keras")}
    models = _small_models()
    for model in models:
        save_net(model, folder / "net.h5")
        model.save(folder / "net.keras")
        model.save(folder / "old.h5")
        found["net.h5"] += [(folder / name).read_bytes() for name in ("net.h5", "old.h5")]
        found["net.keras"].append((folder / "net.keras").read_bytes())
        found["config.json"].append(model.to_json().encode())
        with h5py.File(folder / "old.h5") as file:
            found["config.json"].append(file.attrs["model_config"].encode())
        found["answer.frame"].append(_answer_of(folder / "net.h5", folder / "answer"))
    repaired = copy_model(models[0])
    repaired.set_weights([weights / 2 for weights in models[0].get_weights()])
    build_guard(describe(models[0]), describe(repaired)).save(folder / "guard.keras")
    return {**found, "guard.keras": [(folder / "guard.keras").read_bytes()]}


def _answer_of(path, answer):
    plain, arrays = serialize_net(read_net(path))
    handle = os.open(answer, os.O_CREAT | os.O_WRONLY)
    write_frame(handle, json.loads(json.dumps({"net": plain})), arrays)
    os.close(handle)
    content = answer.read_bytes()
    answer.unlink()
    return content


def _data_files(pixels):
    for packing in ({}, {"compression": "gzip", "chunks": (2, 3, 12, 10)}):
        with io.BytesIO() as content:
            with h5py.File(content, "w") as file:
                data = np.stack([pixels] * 4).transpose(0, 3, 1, 2)
                file.create_dataset("data", data=data, **packing)
                file["label"] = np.arange(4)
            yield content.getvalue()


def _image_files(pixels):
    found = {}
    for name, mode, kind in (
        *(("picture.png", mode, "PNG") for mode in ("RGB", "P", "I;16")),
        *(("picture.jpg", mode, "JPEG") for mode in ("RGB", "L")),
        *(("picture.bmp", mode, "BMP") for mode in ("RGB", "P")),
        *(("picture.ppm", mode, "PPM") for mode in ("RGB", "L", "I;16")),
        *(("picture.webp", mode, "WEBP") for mode in ("RGB", "RGBA")),
    ):
        image = Image.fromarray(pixels)
        if mode == "I;16":
            image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
        with io.BytesIO() as content:
            (image if mode == "I;16" else image.convert(mode)).save(content, kind)
            found.setdefault(name, []).append(content.getvalue())
    return found


def _label_files(truth):
    with io.BytesIO() as content:
        np.save(content, np.array(truth))
        array = content.getvalue()
    return {
        "labels.pkl": [pickle.dumps(truth, protocol) for protocol in range(6)],
        "labels.csv": [b"label\nTrue\nFalse\n1\n0\n", b"1,0,1,0\n"],
        "labels.npy": [array],
    }


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
