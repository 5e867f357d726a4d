"""A saved guard's configuration as data: its description, its nets, and what is wired to what.

The description says what the guard computes, and the reader computes it from that. But whoever
loads the file in Keras gets the graph: so a file is accepted only where each part of its graph
takes what its description says, whatever the parts are called.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from badnet_defense.errors import UnsafeNetError
from badnet_defense.guards.description import HARD, GuardDescription, parse_description
from badnet_defense.nets.keras_order import keras_order
from badnet_defense.nets.layers import SCHEMAS
from badnet_defense.nets.parse import (
    LAYER_KEYS,
    MALFORMED_CONFIG_ERRORS,
    MODEL_KEYS,
    check_dtype,
    check_keys,
    check_once,
    check_origin,
    check_shared,
    only_end,
)

DESCRIPTION = "badnet_defense_guard"
"""Where a portable guard's metadata hold its description, as JSON."""
_OLD_RANGE = "badnet_defense_input_range"
"""Where those of version 0.1 hold their input range."""
_OLD_NAMES = {"bad": "suspect"}
_LAMBDA_KEYS = frozenset("name trainable dtype function output_shape arguments mask".split())
_PORTABLE: dict[str, dict[str, Any]] = {
    "Argmax": {"axis": -1},
    "Sum": {"axis": -1},
    "Add": {},
    "Isfinite": {},
    "Equal": {},
    "LogicalAnd": {},
    "FullLike": {},
    "Where": {},
    "Cast": {"dtype": "int32"},
}
"""The operations of a portable guard, with what is set in them."""
Sources = list[Any]
"""What a call takes, in order: (layer, call) for results, plain numbers as they are."""


@dataclass(frozen=True)
class Wiring:
    """What a guard's configuration says, checked.

    Attributes:
        description: what it computes.
        nets: {name in the file: its document}.
        composed: {name of a composing layer: its detector}.
        input_shape: (h, w, c) of the images.
        classes: N as the file states it, or None.
        layers: [(name, class name)] in Keras' order.
    """

    description: GuardDescription
    nets: dict[str, Any]
    composed: dict[str, str]
    input_shape: tuple[int, int, int]
    classes: int | None
    layers: list[tuple[str, str]]


def role_of(name: str) -> str:
    """The role of a net by its name in the file; version 0.1 called the suspect model "bad"."""
    return _OLD_NAMES.get(name, name)


def guard_wiring(document: Any, metadata: dict[str, Any]) -> Wiring:
    """The `Wiring` of a guard's configuration (parsed JSON).

    Raises:
        UnsafeNetError: it is no guard of this project.
    """
    try:
        check_shared(document)
        return _wiring(document, metadata)
    except MALFORMED_CONFIG_ERRORS as error:
        why = type(error).__name__
    except ValueError as error:
        why = str(error)
    raise UnsafeNetError(
        f"it is no guard of this project ({why[:200]}); expected a suspect model, what it is "
        "compared with, and a rule."
    )


def _wiring(document: Any, metadata: dict[str, Any]) -> Wiring:
    config = document["config"]
    check_keys(document, LAYER_KEYS, "it")
    check_keys(config, MODEL_KEYS, "it")
    check_origin(document, "Functional", "guard")
    calls, layers = _graph(config["layers"])
    images, _ = only_end(config["input_layers"], "input_layers")
    output, _ = ends = only_end(config["output_layers"], "output_layers")
    kinds = {name: layer["class_name"] for name, layer in layers.items()}
    nets = {name: layer for name, layer in layers.items() if kinds[name] == "Functional"}
    rest = {name: layer for name, layer in layers.items() if name not in (*nets, images)}
    composed: dict[str, str] = {}
    if kinds[output] == "Lambda":
        description = _lambda_description(layers[output])
        composed = _composed({n: layer for n, layer in rest.items() if n != output}, description)
        expected, classes = _lambda_calls(list(nets), composed, images, output), None
    else:
        description = _portable_description(metadata)
        expected, classes = _portable_calls(list(nets), rest, images, output, calls)
    if tuple(map(role_of, nets)) != description.roles:
        raise ValueError(f"its nets are called {', '.join(nets) or 'nothing'}")
    odd = [call for call in {**calls, **expected} if calls.get(call) != expected.get(call)]
    if odd or ends != (output, 0):
        name = odd[0] if odd else ends
        raise ValueError(f"{name[0]!r} takes {calls.get(name)}")
    results = {
        call: (call[0], [source for source in taken if isinstance(source, tuple)])
        for call, taken in calls.items()
    }
    order, _ = keras_order(results, ends)
    return Wiring(
        description=description,
        nets=nets,
        composed=composed,
        input_shape=_input_shape(layers[images]),
        classes=classes,
        layers=[(name, kinds[name]) for name in order],
    )


def _graph(documents: list[Any]) -> tuple[dict[tuple[str, int], Sources], dict[str, Any]]:
    """({(layer, call): what it takes}, {name: document}), in the file's order."""
    calls: dict[tuple[str, int], Sources] = {}
    layers: dict[str, Any] = {}
    names: set[str] = set()
    for layer in documents:
        name = layer["name"]
        check_once(name, names)
        check_keys(layer, LAYER_KEYS, f"layer {name!r}")
        if layer["config"]["name"] != name:
            raise ValueError(f"a layer is called {name!r} and otherwise")
        layers[name] = layer
        for place, node in enumerate(layer["inbound_nodes"]):
            calls[(name, place)] = _sources(node)
        if not layer["inbound_nodes"]:
            calls[(name, 0)] = []
    return calls, layers


def _sources(node: Any) -> Sources:
    if set(node["kwargs"]) - {"mask"} or any(one is not None for one in node["kwargs"].values()):
        raise ValueError("a layer is called with arguments")
    args = node["args"]
    flat = args[0] if len(args) == 1 and isinstance(args[0], list) else args
    sources: Sources = []
    for source in flat:
        if type(source) is int:
            sources.append(source)
            continue
        if source["class_name"] != "__keras_tensor__":
            raise ValueError("a layer takes no result of a layer")
        name, place, part = source["config"]["keras_history"]
        if part != 0:
            raise ValueError("a layer takes a second result")
        sources.append((name, place))
    return sources


def _input_shape(layer: Any) -> tuple[int, int, int]:
    if layer["class_name"] != "InputLayer":
        raise ValueError("its input is no input layer")
    check_origin(layer, "InputLayer", "input")
    check_dtype(layer["config"], "its input")
    return SCHEMAS["InputLayer"].checked(layer["config"])["shape"]


# Guards with a Lambda layer that takes the description ------------------------------------------


def _lambda_description(layer: Any) -> GuardDescription:
    """The description that the rule's Lambda layer holds, which does no more than the rule."""
    name, config = layer["name"], layer["config"]
    check_keys(config, _LAMBDA_KEYS, f"layer {name!r}")
    check_dtype(config, f"layer {name!r}")
    check_origin(layer, "Lambda", name)
    if config.get("mask") is not None or config.get("output_shape") not in ([], None):
        raise ValueError(f"layer {name!r} gives more than one number per image")
    function, arguments = config["function"], config["arguments"]
    plain = function["class_name"] == "function" and function.get("module") in ("builtins", None)
    called = function["config"]
    if not plain or function.get("registered_name") not in ("function", called, None):
        raise ValueError(f"layer {name!r} calls a function of somebody else's")
    if called == "badnet_defense>guard_rule" and set(arguments) == {"description"}:
        return parse_description(arguments["description"])
    if called == "badnet_defense>disagreement" and set(arguments) <= {"input_range"}:
        return _hard(arguments.get("input_range"))
    if called == "badnet_defense>flag_above":
        raise ValueError(
            "it was made by version 0.1 with a calibrated detector: make it again with "
            "badnet-defense guard"
        )
    raise ValueError(f"layer {name!r} calls another function")


def _hard(input_range: Any) -> GuardDescription:
    """The description of a disagreement guard of version 0.1, which holds its range at most."""
    return parse_description({**HARD.as_dict(), "input_range": input_range})


def _composed(layers: dict[str, Any], description: GuardDescription) -> dict[str, str]:
    """{name of a composing layer: its detector}, as the description says."""
    members = [member for member in description.rule if member.hosts is not None]
    composed = {}
    for name, layer in layers.items():
        config = layer["config"]
        if layer["registered_name"] != "badnet_defense>Composed":
            raise ValueError(f"its layer {name!r} is somebody else's")
        check_keys(config, {"name", "trainable", "dtype", "detector", "count"}, f"layer {name!r}")
        check_dtype(config, f"layer {name!r}")
        if layer["class_name"] != "Composed":
            raise ValueError(f"its layer {name!r} is somebody else's")
        composed[name] = (config["detector"], config["count"])
    if list(composed.values()) != [(one.detector, len(one.hosts or ())) for one in members]:
        raise ValueError("its description and its overlays do not belong together")
    return {name: detector for name, (detector, _) in composed.items()}


def _lambda_calls(
    nets: list[str], composed: dict[str, str], images: str, output: str
) -> dict[tuple[str, int], Sources]:
    """What each call takes in a guard of these parts."""
    suspect = nets[0]
    asked = {(suspect, place): [(name, 0)] for place, name in enumerate(composed, start=1)}
    return {
        (images, 0): [],
        **{(name, 0): [(images, 0)] for name in (*nets, *composed)},
        **asked,
        (output, 0): [*((name, 0) for name in nets), *asked],
    }


# Portable guards, of plain operations -----------------------------------------------------------


def _portable_description(metadata: dict[str, Any]) -> GuardDescription:
    if DESCRIPTION not in metadata:
        return _hard(metadata.get(_OLD_RANGE))
    description = parse_description(json.loads(metadata[DESCRIPTION]))
    if replace(description, input_range=None) != HARD:
        raise ValueError("its operations are the disagreement's, but its description is not")
    return description


def _portable_calls(
    nets: list[str],
    rest: dict[str, Any],
    images: str,
    output: str,
    calls: dict[tuple[str, int], Sources],
) -> tuple[dict[tuple[str, int], Sources], int]:
    """(what each call takes in a portable guard, N): argmax of both nets; N where they differ."""
    names: dict[str, list[str]] = {kind: [] for kind in _PORTABLE}
    for name, layer in rest.items():
        kind = layer["class_name"]
        settings = {
            key: value
            for key, value in layer["config"].items()
            if key != "name" and value is not None and value is not False
        }
        if settings != _PORTABLE[kind] or layer["registered_name"] not in (None, kind):
            raise ValueError(f"its operation {kind} is set to {settings}")
        if layer["module"] not in ("keras.ops", "keras.src.ops.numpy", "keras.src.ops.core"):
            raise ValueError(f"its operation {kind} is of {str(layer['module'])[:40]!r}")
        names[kind].append(name)
    (own, other), (sum_own, sum_other) = names.pop("Argmax"), names.pop("Sum")
    total, finite, equal, alike, filled, chosen, cast = (name for (name,) in names.values())
    classes = calls[(filled, 0)][-1]
    if type(classes) is not int or cast != output:
        raise ValueError(f"{filled!r} takes {classes}, and its answer is that of {output!r}")
    suspect, repaired = nets
    expected: dict[str, Sources] = {
        images: [],
        suspect: [(images, 0)],
        repaired: [(images, 0)],
        own: [(suspect, 0)],
        other: [(repaired, 0)],
        sum_own: [(suspect, 0)],
        sum_other: [(repaired, 0)],
        total: [(sum_own, 0), (sum_other, 0)],
        finite: [(total, 0)],
        equal: [(own, 0), (other, 0)],
        alike: [(equal, 0), (finite, 0)],
        filled: [(own, 0), classes],
        chosen: [(alike, 0), (own, 0), (filled, 0)],
        cast: [(chosen, 0)],
    }
    return {(name, 0): taken for name, taken in expected.items()}, classes
