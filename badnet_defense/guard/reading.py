"""Reads a saved guard as data: its nets and numbers, without running anything."""

import math
from pathlib import Path

from badnet_defense.data.files import require_file
from badnet_defense.data.input_range import InputRange
from badnet_defense.data.isolation import isolated
from badnet_defense.data.limits import current
from badnet_defense.errors import InputError, TooLargeError, UnsafeFileError, UnsafeNetError
from badnet_defense.guard import scores
from badnet_defense.guard.saved import HARD, SavedGuard
from badnet_defense.nets.hdf5_weights import arrays_by_class, plain_dataset
from badnet_defense.nets.loader import check_size, memory_for, named_errors, opened_keras_zip
from badnet_defense.nets.parse import parse_model
from badnet_defense.nets.shapes import MOST_VALUES
from badnet_defense.nets.weights import checked_array, with_weights
from badnet_defense.nets.wire import spec_from_wire, spec_to_wire

_PACKAGE = "badnet_defense>"
_PORTABLE = ["Argmax", "Argmax", "Equal", "FullLike", "Where", "Cast"]
MOST_OVERLAYS = 1000
_COMPOSING = {
    "certainty": ("LaidOver", "layers/laid_over/vars/0"),
    "transplant": ("Pasted", "layers/pasted/vars/0"),
}
"""The layer that composes pictures for a measure, and where its own pictures are stored."""


def read_guard(path):
    """A guard that this project saved, as a `SavedGuard`.

    Args:
        path: `.guard.keras`, a calibrated guard, or what `export_portable` wrote as `.keras`.

    Raises:
        InputError: it is no guard.
        UnsafeNetError: its nets are made of more than plain layers, or its numbers are no numbers.
    """
    path = require_file(path, "a guard (.guard.keras)")
    check_size(path)
    if not current().isolate:
        return read_guard_here(path)
    found, arrays = isolated("guard", path, memory=memory_for(path))
    with named_errors(path):
        return guard_from_wire(found.get("guard"), arrays)


def read_guard_here(path):
    """As `read_guard`, in this process whatever the limits say."""
    with named_errors(path), opened_keras_zip(path) as (document, file):
        nets, rule, overlays = _parts(document)
        specs = {}
        for place, (name, net) in enumerate(nets.items()):
            spec, root = parse_model(net)
            group = plain_dataset(file, "layers/functional" + (f"_{place}" if place else ""))
            specs[name] = with_weights(spec, arrays_by_class(spec, root, group))
        _check_alike(specs)
        overlays = {
            measure: _stored_overlays(file, measure, (count, *specs["bad"].input_shape))
            for measure, count in overlays.items()
        }
    return SavedGuard(specs, **rule, overlays=overlays)


def _check_alike(specs):
    shapes = {name: (spec.input_shape, spec.classes) for name, spec in specs.items()}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{name} {shape[0]} to {shape[1]}" for name, shape in shapes.items())
        raise UnsafeNetError(f"its nets differ in shape ({told}); expected nets of one shape.")


def _stored_overlays(file, measure, shape):
    if math.prod(shape) > MOST_VALUES:
        raise TooLargeError(f"its overlays have the shape {shape}; that takes too much memory.")
    return checked_array(plain_dataset(file, _COMPOSING[measure][1]), shape, "overlays")


def guard_to_wire(guard):
    """(what `json.dumps` takes, arrays) of a `SavedGuard`."""
    nets, arrays = {}, []
    for name, spec in guard.nets.items():
        nets[name], own = spec_to_wire(spec)
        nets[name]["arrays"] = len(own)
        arrays += own
    range_ = guard.input_range
    plain = {
        "nets": nets,
        "measures": list(guard.measures),
        "thresholds": list(guard.thresholds),
        "overlays": list(guard.overlays),
        "input_range": None if range_ is None else [range_.low, range_.high],
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
            specs[name] = spec_from_wire(net, remaining[:count])
            remaining = remaining[count:]
        _check_alike(specs)
        measures, limits = tuple(plain["measures"]), tuple(plain["thresholds"])
        overlays = dict(zip(plain["overlays"], remaining, strict=True))
        range_ = plain["input_range"] and InputRange(*map(float, plain["input_range"]))
        shape = specs["bad"].input_shape
        right = (
            set(specs) <= set(scores.NAMES)
            and len(measures) == len(limits)
            and all(set(scores.NETS[one]) <= set(specs) for one in measures)
            and all(math.isfinite(one) for one in limits)
            and set(overlays) == set(_COMPOSING) & set(measures)
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
    return SavedGuard(specs, measures, limits, overlays, range_)


def is_guard(path):
    """True where the file has the shape of a guard; its nets are not looked at yet."""
    path = Path(path)
    if not current().isolate:
        return is_guard_here(path)
    return isolated("is_guard", path, memory=memory_for(path))[0].get("guard") is True


def is_guard_here(path):
    """As `is_guard`, in this process whatever the limits say."""
    try:
        with named_errors(path), opened_keras_zip(path) as (document, _):
            return bool(_parts(document))
    except InputError:
        return False


def _parts(document):
    """({name: net}, measures and thresholds, {measure: overlays}) of a guard's document."""
    try:
        layers = document["config"]["layers"][1:]
        nets = {one["name"]: one for one in layers if one["class_name"] == "Functional"}
        rest = [one for one in layers if one["class_name"] != "Functional"]
        if tuple(nets) == scores.NAMES[: len(nets)] and nets:
            kinds = [one["class_name"] for one in rest]
            if kinds == _PORTABLE or (kinds == ["Lambda"] and _function(rest[0]) == "disagreement"):
                if len(nets) == 2:
                    return nets, HARD, {}
            elif kinds:
                return nets, *_calibrated(nets, rest)
    except (KeyError, TypeError, IndexError, ValueError, AttributeError):
        pass
    raise UnsafeNetError(
        "it is no guard of this project; expected a bad net, what it is compared with, and a rule."
    )


def _calibrated(nets, layers):
    """(measures and thresholds, {measure: overlays}); `ValueError` where it is none."""
    kinds = {kind: measure for measure, (kind, _) in _COMPOSING.items()}
    composing = [one for one in layers if one["class_name"] in kinds]
    *found, verdict = [one for one in layers if one["class_name"] not in kinds]
    measures = tuple(_function(one) for one in found)
    limits = verdict["config"]["arguments"]["thresholds"]
    low, high = verdict["config"]["arguments"]["input_range"]
    overlays = {kinds[one["class_name"]]: one["config"]["count"] for one in composing}
    right = (
        _function(verdict) == "flag_above"
        and 0 < len(measures) == len(set(measures)) == len(limits)
        and _inputs(verdict) == ["bad", *measures]
        and all(
            _inputs(one) == list(scores.NETS[name])
            for one, name in zip(found, measures, strict=True)
        )
        and all(set(scores.NETS[one]) <= set(nets) for one in measures)
        and all(isinstance(one, float) and math.isfinite(one) for one in (*limits, low, high))
        and low < high
        and len(composing) == len(overlays)
        and set(overlays) == set(_COMPOSING) & set(measures)
        and all(0 < count <= MOST_OVERLAYS for count in overlays.values())
    )
    if not right:
        raise ValueError
    rule = {"measures": measures, "thresholds": tuple(limits)}
    return {**rule, "input_range": InputRange(low, high)}, overlays


def _inputs(layer):
    """Names of the layers whose results a layer is called with, in order."""

    def names(node):
        if isinstance(node, dict) and "keras_history" in node:
            return [node["keras_history"][0]]
        parts = node.values() if isinstance(node, dict) else node
        return [name for part in parts if isinstance(part, dict | list) for name in names(part)]

    return names([node["args"] for node in layer["inbound_nodes"]])


def _function(layer):
    """The name of a Lambda layer's registered function; `ValueError` for any other layer."""
    function = layer["config"]["function"]
    name = function["config"]
    if layer["class_name"] != "Lambda" or function["class_name"] != "function":
        raise ValueError
    if not name.startswith(_PACKAGE):
        raise ValueError
    return name.removeprefix(_PACKAGE)
