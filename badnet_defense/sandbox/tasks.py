"""What a reader can be asked for: each takes a file and gives plain values and arrays."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import Any

import numpy as np

from badnet_defense.guards.reading import guard_to_wire, is_guard_here, read_guard_here
from badnet_defense.io.image_files import read_image
from badnet_defense.io.reading import read_images_in_process
from badnet_defense.io.trigger_labels import read_trigger_labels_here
from badnet_defense.nets.reader import read_net_in_process
from badnet_defense.sandbox.serialize import serialize_net

Answer = tuple[dict[str, Any], list[np.ndarray]]
"""Plain values and arrays."""


def net(path: str | PathLike[str]) -> Answer:
    """A net's file."""
    plain, arrays = serialize_net(read_net_in_process(path))
    return {"net": plain}, arrays


def guard(path: str | PathLike[str]) -> Answer:
    """A guard's file."""
    found, digest = read_guard_here(path)
    plain, arrays = guard_to_wire(found)
    return {"guard": plain, "file_sha256": digest}, arrays


def is_guard(path: str | PathLike[str]) -> Answer:
    """Whether a file has the shape of a guard."""
    return {"guard": is_guard_here(path)}, []


def images(path: str | PathLike[str], *, shape: Any, **asked: Any) -> Answer:
    """A data set or an image."""
    sides = None if shape is None else tuple(shape)
    found = read_images_in_process(path, shape=sides, **asked)
    arrays = [found.images] if found.labels is None else [found.images, found.labels]
    return {"synthetic": found.synthetic, "folders": found.folders}, arrays


def image(path: str | PathLike[str], *, shape: Any) -> Answer:
    """One image."""
    return {}, [read_image(path, tuple(shape))]


def trigger_labels(path: str | PathLike[str], *, images: int) -> Answer:
    """Truth values, one for each image."""
    return {}, [read_trigger_labels_here(path, images).astype("uint8")]


TASKS: dict[str, Callable[..., Answer]] = {
    "net": net,
    "guard": guard,
    "is_guard": is_guard,
    "images": images,
    "image": image,
    "trigger_labels": trigger_labels,
}
