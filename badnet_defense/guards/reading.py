"""Reads a saved guard as data: its nets and numbers, without running anything."""

from __future__ import annotations

import math
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from badnet_defense.errors import InputError, TooLargeError, UnsafeFileError, UnsafeNetError
from badnet_defense.guards.description import GuardDescription, parse_description
from badnet_defense.guards.saved import SavedGuard
from badnet_defense.guards.wiring import Wiring, guard_wiring, role_of
from badnet_defense.io.files import file_sha256, require_file
from badnet_defense.nets.hdf5_weights import arrays_by_class
from badnet_defense.nets.net import Net
from badnet_defense.nets.parse import Entry, parse_model
from badnet_defense.nets.reader import (
    check_size,
    check_unchanged,
    file_content,
    memory_for,
    named_errors,
    opened_keras_zip,
)
from badnet_defense.nets.shapes import MAX_VALUES
from badnet_defense.nets.weights import checked_array, expected_weights, with_weights
from badnet_defense.sandbox.client import isolated
from badnet_defense.sandbox.limits import current
from badnet_defense.sandbox.serialize import deserialize_net, serialize_net


def read_guard(path: str | PathLike[str]) -> SavedGuard:
    """A guard that this project saved, as a `SavedGuard`.

    Args:
        path: `.guard.keras`, a calibrated guard, or what `export_portable` wrote as `.keras`.

    Raises:
        InputError: it is no guard.
        UnsafeNetError: its nets are made of more than plain layers, its parts are wired otherwise,
            or its numbers are no numbers.
    """
    path = require_file(path, "a guard (.guard.keras)")
    check_size(path)
    digest = file_sha256(path)
    if not current().isolate:
        guard, read = read_guard_here(path)
    else:
        found, arrays = isolated("guard", path, memory=memory_for(path))
        read = str(found.get("file_sha256"))
        with named_errors(path):
            guard = guard_from_wire(found.get("guard"), arrays)
    check_unchanged(path, digest, read)
    return guard


def read_guard_here(path: str | PathLike[str]) -> tuple[SavedGuard, str]:
    """(`SavedGuard`, SHA-256 of what was read), in this process whatever the limits say."""
    with named_errors(path):
        content, digest = file_content(path)
        with opened_keras_zip(content) as (document, file, metadata):
            guard = _guard(guard_wiring(document, metadata), file)
    return guard, digest


def _guard(wiring: Wiring, file: Any) -> SavedGuard:
    nets: dict[str, Net] = {}
    counts: dict[str, int] = {}
    children = []
    for name, kind in wiring.layers:
        entry = Entry(kind, name, f"{name}:", True)
        if name in wiring.nets:
            nets[name], root = parse_model(wiring.nets[name])
            entry.children = [_in_guard(child, name) for child in root.children or ()]
            expected = expected_weights(nets[name])
            counts |= {f"{name}:{layer}": len(weights) for layer, weights in expected.items()}
        elif name in wiring.composed:
            counts[entry.flat] = 1
        children.append(entry)
    _check_alike(nets, wiring)
    arrays = arrays_by_class(Entry("Functional", "guard", "", True, children), counts, file)
    for name, net in nets.items():
        layers = {layer: arrays.get(f"{name}:{layer}") for layer in net.layers}
        nets[name] = with_weights(net, {layer: own for layer, own in layers.items() if own})
    by_role = {role_of(name): nets[name] for name in wiring.nets}
    _check_different(by_role)
    hosts = {member.detector: member.hosts for member in wiring.description.rule}
    overlays = {
        detector: _checked_overlays(
            arrays[f"{name}:"][0], (len(hosts[detector] or ()), *wiring.input_shape)
        )
        for name, detector in wiring.composed.items()
    }
    return SavedGuard(by_role, wiring.description, overlays, wiring.description.input_range)


def _in_guard(entry: Entry, name: str) -> Entry:
    """A net's `Entry` with its layers called as the guard's."""
    inner = entry.children and [_in_guard(child, name) for child in entry.children]
    return Entry(entry.kind, entry.name, f"{name}:{entry.flat}", entry.trainable, inner)


def _check_alike(nets: dict[str, Net], wiring: Wiring | None = None) -> None:
    shapes = {name: (net.input_shape, net.classes) for name, net in nets.items()}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{name} {shape[0]} to {shape[1]}" for name, shape in shapes.items())
        raise UnsafeNetError(f"its nets differ in shape ({told}); expected nets of one shape.")
    ((shape, classes),) = set(shapes.values())
    if wiring is not None and (
        wiring.input_shape != shape
        or wiring.classes not in (None, classes)
        or not _hosts_fit(wiring.description, classes)
    ):
        raise UnsafeNetError(
            f"it takes {wiring.input_shape} and names other classes than its nets, which map "
            f"{shape} to {classes}; expected a guard of these nets."
        )


def _hosts_fit(description: GuardDescription, classes: int) -> bool:
    return all(host < classes for member in description.rule for host in member.hosts or ())


def _check_different(nets: dict[str, Net]) -> None:
    """Refuses a guard whose repair is the suspect model once more: it would never flag."""
    if "repaired" not in nets:
        return
    first, second = ([*nets[role].layers.values()] for role in ("suspect", "repaired"))
    same = len(first) == len(second) and all(
        (one.kind, one.config) == (other.kind, other.config)
        and all(map(np.array_equal, one.weights, other.weights))
        for one, other in zip(first, second, strict=True)
    )
    if same:
        raise UnsafeNetError(
            "its suspect model and its repair are one net, so it flags no image; expected a repair."
        )


def _checked_overlays(array: Any, shape: tuple[int, ...]) -> np.ndarray:
    if math.prod(shape) > MAX_VALUES:
        raise TooLargeError(f"its overlays have the shape {shape}; that takes too much memory.")
    return checked_array(array, shape, "overlays")


def guard_to_wire(guard: SavedGuard) -> tuple[dict[str, Any], list[np.ndarray]]:
    """(what `json.dumps` takes, arrays) of a `SavedGuard` with a description."""
    nets, arrays = {}, []
    for role, net in guard.nets.items():
        nets[role], own = serialize_net(net)
        nets[role]["arrays"] = len(own)
        arrays += own
    described = guard.description
    plain = {"nets": nets, "description": None if described is None else described.as_dict()}
    return plain, [*arrays, *guard.overlays.values()]


def guard_from_wire(plain: Any, arrays: list[np.ndarray]) -> SavedGuard:
    """The `SavedGuard`, with nothing believed.

    Raises:
        UnsafeNetError: it is none.
    """
    remaining, nets = list(arrays), {}
    try:
        description = parse_description(plain["description"])
        for role in description.roles:
            count = plain["nets"][role]["arrays"]
            nets[role] = deserialize_net(plain["nets"][role], remaining[:count])
            remaining = remaining[count:]
        _check_alike(nets)
        composing = [member for member in description.rule if member.hosts is not None]
        pairs = list(zip(composing, remaining, strict=True))
        shape = nets["suspect"].input_shape
        right = (
            set(plain["nets"]) == set(nets)
            and _hosts_fit(description, nets["suspect"].classes)
            and all(array.shape == (len(one.hosts or ()), *shape) for one, array in pairs)
        )
        overlays = {member.detector: array for member, array in pairs}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, UnsafeFileError):
            raise
        right = False
    if not right:
        raise UnsafeNetError("its reader hands back no guard.")
    return SavedGuard(nets, description, overlays, description.input_range)


def is_guard(path: str | PathLike[str]) -> bool:
    """True where the file has the shape of a guard; its nets are not looked at yet."""
    path = Path(path)
    if not current().isolate:
        return is_guard_here(path)
    return isolated("is_guard", path, memory=memory_for(path))[0].get("guard") is True


def is_guard_here(path: str | PathLike[str]) -> bool:
    """As `is_guard`, in this process whatever the limits say."""
    try:
        with named_errors(path):
            content, _ = file_content(path)
            with opened_keras_zip(content) as (document, _, metadata):
                return bool(guard_wiring(document, metadata))
    except InputError:
        return False
