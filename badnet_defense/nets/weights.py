"""Copies the arrays of a net's file onto its description, after checking them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from badnet_defense.errors import TooLargeError, UnsafeNetError, WeightError
from badnet_defense.nets.layers import SCHEMAS
from badnet_defense.nets.net import Net, call_shapes
from badnet_defense.nets.parse import Entry
from badnet_defense.sandbox.limits import current


def expected_weights(net: Net) -> dict[str, dict[str, tuple[int, ...]]]:
    """Layer name -> {weight name: shape}, for the layers of `net` that are called.

    Raises:
        UnsafeNetError: a layer's inputs do not fit it or differ, or there are too many weights.
    """
    shapes = call_shapes(net)
    expected: dict[str, dict[str, tuple[int, ...]]] = {}
    for call in net.calls[1:]:
        layer = net.layers[call.layer]
        inputs = [shapes[position] for position in call.inputs]
        try:
            named = SCHEMAS[layer.kind].weight_shapes(layer.config, inputs)
        except ValueError as error:
            raise UnsafeNetError(f"layer {layer.name!r} ({layer.kind}), {error}.") from None
        if expected.setdefault(layer.name, named) != named:
            raise UnsafeNetError(f"layer {layer.name!r} is called with inputs of different shapes.")
    total = sum(math.prod(shape) for named in expected.values() for shape in named.values())
    most = current().max_net_size // 4  # an HDF5 file of a few bytes can claim any size
    if total > most:
        raise TooLargeError(f"it has {total:,} weights; expected at most {most:,}.")
    return expected


def with_weights(net: Net, arrays: Mapping[str, Sequence[Any]]) -> Net:
    """`net` with the checked arrays of each layer.

    Args:
        net: a Net.
        arrays: layer name -> list of array-likes (HDF5 datasets or arrays), in Keras' order.

    Raises:
        WeightError: a missing array, another shape, another dtype, NaN or infinity.
    """
    filled = {}
    expected = expected_weights(net)
    for name, layer in net.layers.items():
        shapes = expected.get(name, {})
        given = arrays.get(name, [])
        if len(given) != len(shapes):
            raise WeightError(
                f"layer {name!r} ({layer.kind}) has {len(given)} weights; expected {len(shapes)}."
            )
        checked = tuple(
            checked_array(array, shape, f"{name}/{weight}")
            for array, (weight, shape) in zip(given, shapes.items(), strict=True)
        )
        if checked:
            try:
                SCHEMAS[layer.kind].check_weights(layer.config, checked)
            except ValueError as error:
                raise WeightError(f"layer {name!r} ({layer.kind}), {error}.") from None
        filled[name] = replace(layer, weights=checked)
    return replace(net, layers=filled)


def checked_array(array: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    """A dataset as `float32` array; `WeightError` unless it is `shape` floats, all finite."""
    if getattr(array, "shape", None) is None:
        raise WeightError(f"weight {name!r} is no array; expected one of the shape {shape}.")
    if tuple(array.shape) != shape:
        raise WeightError(f"weight {name!r} has the shape {tuple(array.shape)}; expected {shape}.")
    if np.dtype(array.dtype).kind != "f":
        raise WeightError(f"weight {name!r} has the dtype {array.dtype}; expected floats.")
    values = np.asarray(array[...], dtype=np.float32)
    if not np.isfinite(values).all():
        raise WeightError(f"weight {name!r} holds NaN or infinity; expected finite numbers.")
    return values


def snake_names(entries: Iterable[Entry], has_weights: Any = None) -> Iterator[tuple[Entry, str]]:
    """The names under which Keras 3 stores layers: class names, numbered where one comes again."""
    return _numbered((entry, 1) for entry in entries)


def doubled_snake_names(
    entries: Iterable[Entry], has_weights: Callable[[Entry], Any]
) -> Iterator[tuple[Entry, str]]:
    """Those of Keras 2.12 to 2.15, whose list of layers has each that `has_weights` twice."""
    return _numbered((entry, 1 + bool(has_weights(entry))) for entry in entries)


def _numbered(entries: Iterable[tuple[Entry, int]]) -> Iterator[tuple[Entry, str]]:
    """(entry, name), where each takes so many numbers of its class."""
    used: dict[str, int] = {}
    for entry, times in entries:
        name = _snake(entry.kind)
        count = used.get(name, 0)
        used[name] = count + times
        yield entry, f"{name}_{count}" if count else name


def _snake(kind: str) -> str:
    """Keras' own rule: Conv2D -> conv2d, MaxPooling2D -> max_pooling2d."""
    spaced = re.sub(r"\W+", "", kind)
    spaced = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", spaced)
    return re.sub("([a-z])([A-Z])", r"\1_\2", spaced).lower()
