"""A `Net` as plain values and arrays, and back with every check made again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from badnet_defense.errors import CodeInNetError, UnsafeNetError
from badnet_defense.nets.file_attributes import checked_attributes
from badnet_defense.nets.layers import SCHEMAS
from badnet_defense.nets.net import Call, LayerSpec, Net
from badnet_defense.nets.parse import MAX_LAYERS, plain_name
from badnet_defense.nets.shapes import check_shapes
from badnet_defense.nets.weights import expected_weights, with_weights


def serialize_net(net: Net) -> tuple[dict[str, Any], list[np.ndarray]]:
    """(what `json.dumps` takes, arrays) of a `Net`."""
    layers = list(net.layers.values())
    plain = {
        "name": net.name,
        "layers": [[layer.kind, layer.name, layer.config] for layer in layers],
        "calls": [[call.layer, list(call.inputs)] for call in net.calls],
        "output": net.output,
        "attributes": net.attributes,
    }
    return plain, [array for layer in layers for array in layer.weights]


def deserialize_net(plain: Any, arrays: Sequence[np.ndarray]) -> Net:
    """The `Net`, checked as one that was read from a file: nothing in it is believed.

    Raises:
        UnsafeNetError: it is none, or breaks a rule of `parse_model` or of `with_weights`.
    """
    try:
        layers = dict(_layer(*one) for one in plain["layers"])
        calls = tuple(_call(layers, place, *one) for place, one in enumerate(plain["calls"]))
        name, output, notes = plain_name(plain["name"]), plain["output"], plain["attributes"]
        right = (
            len(layers) == len(plain["layers"]) <= MAX_LAYERS
            and 0 < len(calls) <= MAX_LAYERS
            and type(output) is int
            and 0 <= output < len(calls)
        )
        notes = _notes(dict(notes))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, UnsafeNetError):
            raise
        right = False
    if not right:
        raise UnsafeNetError("its reader hands back no net.")
    net = Net(name, layers, calls, output, notes)
    check_shapes(net)
    given, remaining = {}, iter(arrays)
    expected = expected_weights(net)
    for layer in layers:
        given[layer] = [array for _, array in zip(expected.get(layer, ()), remaining, strict=False)]
    return with_weights(net, given)


def _notes(notes: dict[str, Any]) -> dict[str, Any]:
    """A net's notes, checked again; `ValueError` where they are none."""
    about: dict[str, Any] = {
        name: notes.pop(name) for name in ("file", "file_sha256") if name in notes
    }
    if not all(isinstance(one, str) for one in about.values()):
        raise ValueError
    return {**checked_attributes(notes), **about}


def _layer(kind: Any, name: str, config: Any) -> tuple[str, LayerSpec]:
    if kind not in SCHEMAS:
        raise CodeInNetError(f"its reader hands back a layer {str(kind)[:60]!r}.")
    if kind == "InputLayer":
        config = {"batch_shape": [None, *config["shape"]]}
    return plain_name(name), LayerSpec(kind, name, SCHEMAS[kind].checked(config))


def _call(layers: dict[str, LayerSpec], place: int, layer: Any, inputs: Any) -> Call:
    """The `Call` at a place; `ValueError` unless it takes results of earlier ones."""
    kind = layers[layer].kind
    needed = SCHEMAS[kind].inputs
    enough = len(inputs) == needed if needed is not None else len(inputs) >= 2
    earlier = all(type(one) is int and 0 <= one < place for one in inputs)
    if not (enough and earlier and (kind == "InputLayer") == (place == 0)):
        raise ValueError
    return Call(layer, tuple(inputs))
