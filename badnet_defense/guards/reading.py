"""Reads a saved guard as data: its nets and numbers, without running anything."""

import math
from pathlib import Path

import numpy as np

from badnet_defense.detectors import scores
from badnet_defense.errors import InputError, TooLargeError, UnsafeFileError, UnsafeNetError
from badnet_defense.guards.saved import SavedGuard
from badnet_defense.guards.wiring import COMPOSING, MOST_OVERLAYS, guard_wiring
from badnet_defense.io.files import file_sha256, require_file
from badnet_defense.nets.hdf5_weights import arrays_by_class
from badnet_defense.nets.input_range import InputRange
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


def read_guard(path):
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
        read = found.get("file_sha256")
        with named_errors(path):
            guard = guard_from_wire(found.get("guard"), arrays)
    check_unchanged(path, digest, read)
    return guard


def read_guard_here(path):
    """(`SavedGuard`, SHA-256 of what was read), in this process whatever the limits say."""
    with named_errors(path):
        content, digest = file_content(path)
        with opened_keras_zip(content) as (document, file, metadata):
            guard = _guard(guard_wiring(document, metadata), file)
    return guard, digest


def _guard(wiring, file):
    specs, counts, children = {}, {}, []
    measures = {COMPOSING[measure]: measure for measure in wiring.overlays}
    for name, kind in wiring.layers:
        entry = Entry(kind, name, f"{name}:", True)
        if name in wiring.nets:
            specs[name], root = parse_model(wiring.nets[name])
            entry.children = [_in_guard(child, name) for child in root.children]
            expected = expected_weights(specs[name])
            counts |= {f"{name}:{layer}": len(weights) for layer, weights in expected.items()}
        elif kind in measures:
            counts[entry.flat] = 1
        children.append(entry)
    _check_alike(specs, wiring)
    arrays = arrays_by_class(Entry("Functional", "guard", "", True, children), counts, file)
    for name, spec in specs.items():
        own = {
            layer: arrays[f"{name}:{layer}"]
            for layer in spec.layers
            if arrays.get(f"{name}:{layer}")
        }
        specs[name] = with_weights(spec, own)
    _check_different(specs)
    shape = specs["bad"].input_shape
    overlays = {
        measures[kind]: _checked_overlays(
            arrays[f"{name}:"][0], (wiring.overlays[measures[kind]], *shape)
        )
        for name, kind in wiring.layers
        if kind in measures
    }
    specs = {name: specs[name] for name in scores.NAMES if name in specs}
    return SavedGuard(
        specs, **wiring.rule, overlays=overlays, input_range=wiring.input_range, hosts=wiring.hosts
    )


def _in_guard(entry, name):
    """A net's `Entry` with its layers called as the guard's."""
    inner = entry.children and [_in_guard(child, name) for child in entry.children]
    return Entry(entry.kind, entry.name, f"{name}:{entry.flat}", entry.trainable, inner)


def _check_alike(specs, wiring=None):
    shapes = {name: (spec.input_shape, spec.classes) for name, spec in specs.items()}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{name} {shape[0]} to {shape[1]}" for name, shape in shapes.items())
        raise UnsafeNetError(f"its nets differ in shape ({told}); expected nets of one shape.")
    ((shape, classes),) = set(shapes.values())
    if wiring is not None and (
        wiring.input_shape != shape
        or wiring.classes not in (None, classes)
        or any(one >= classes for one in wiring.hosts or ())
    ):
        raise UnsafeNetError(
            f"it takes {wiring.input_shape} and names other classes than its nets, which map "
            f"{shape} to {classes}; expected a guard of these nets."
        )


def _check_different(specs):
    """Refuses a guard whose repair is the suspect model once more: it would never flag."""
    if "repaired" not in specs:
        return
    first, second = ([*specs[name].layers.values()] for name in ("bad", "repaired"))
    same = len(first) == len(second) and all(
        (one.kind, one.config) == (other.kind, other.config)
        and all(map(np.array_equal, one.weights, other.weights))
        for one, other in zip(first, second, strict=True)
    )
    if same:
        raise UnsafeNetError(
            "its suspect model and its repair are one net, so it flags no image; expected a repair."
        )


def _checked_overlays(array, shape):
    if math.prod(shape) > MAX_VALUES:
        raise TooLargeError(f"its overlays have the shape {shape}; that takes too much memory.")
    return checked_array(array, shape, "overlays")


def guard_to_wire(guard):
    """(what `json.dumps` takes, arrays) of a `SavedGuard`."""
    nets, arrays = {}, []
    for name, spec in guard.nets.items():
        nets[name], own = serialize_net(spec)
        nets[name]["arrays"] = len(own)
        arrays += own
    range_ = guard.input_range
    plain = {
        "nets": nets,
        "measures": list(guard.measures),
        "thresholds": list(guard.thresholds),
        "overlays": list(guard.overlays),
        "input_range": None if range_ is None else [range_.low, range_.high],
        "hosts": None if guard.hosts is None else list(guard.hosts),
    }
    return plain, [*arrays, *guard.overlays.values()]


def guard_from_wire(plain, arrays):
    """The `SavedGuard`, with nothing believed.

    Raises:
        UnsafeNetError: it is none.
    """
    remaining, specs = list(arrays), {}
    try:
        for name, net in plain["nets"].items():
            count = net["arrays"]
            specs[name] = deserialize_net(net, remaining[:count])
            remaining = remaining[count:]
        _check_alike(specs)
        measures, limits = tuple(plain["measures"]), tuple(plain["thresholds"])
        overlays = dict(zip(plain["overlays"], remaining, strict=True))
        range_ = plain["input_range"] and InputRange(*map(float, plain["input_range"]))
        shape, hosts = specs["bad"].input_shape, plain["hosts"]
        hosts = None if hosts is None else tuple(map(int, hosts))
        hosted = set(scores.HOSTED) & set(overlays)
        right = (
            set(specs) <= set(scores.NAMES)
            and len(measures) == len(limits)
            and all(set(scores.NETS[one]) <= set(specs) for one in measures)
            and all(math.isfinite(one) for one in limits)
            and set(overlays) == set(COMPOSING) & set(measures)
            and len(hosted) == (hosts is not None)
            and all(len(hosts) == len(overlays[one]) for one in hosted)
            and all(0 <= one < specs["bad"].classes for one in hosts or ())
            and all(
                array.shape[1:] == shape and 0 < len(array) <= MOST_OVERLAYS
                for array in overlays.values()
            )
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, UnsafeFileError):
            raise
        right = False
    if not right:
        raise UnsafeNetError("its reader hands back no guard.")
    return SavedGuard(specs, measures, limits, overlays, range_, hosts)


def is_guard(path):
    """True where the file has the shape of a guard; its nets are not looked at yet."""
    path = Path(path)
    if not current().isolate:
        return is_guard_here(path)
    return isolated("is_guard", path, memory=memory_for(path))[0].get("guard") is True


def is_guard_here(path):
    """As `is_guard`, in this process whatever the limits say."""
    try:
        with named_errors(path):
            content, _ = file_content(path)
            with opened_keras_zip(content) as (document, _, metadata):
                return bool(guard_wiring(document, metadata))
    except InputError:
        return False
