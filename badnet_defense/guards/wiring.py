"""A saved guard's configuration as data: its nets, its rule, and what is wired to what.

A guard is accepted only where each of its parts takes what the same part of an honest guard takes:
another program runs the wiring that the file describes, whatever its parts are called.
"""

import math
from dataclasses import dataclass

from badnet_defense.detectors import scores
from badnet_defense.errors import UnsafeNetError
from badnet_defense.guards.saved import HARD
from badnet_defense.nets.input_range import InputRange
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

_PACKAGE = "badnet_defense>"
_LAMBDA_KEYS = frozenset("name trainable dtype function output_shape arguments mask".split())
_PORTABLE = {
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
MOST_OVERLAYS = 1000
COMPOSING = {"neg_entropy": "LaidOver", "paste_success": "Pasted", "takeover": "PastedOn"}
"""The layer that composes images for a measure."""
RANGE_NOTE = "badnet_defense_input_range"
"""Where a portable guard's metadata hold its input range, [low, high]."""


@dataclass(frozen=True)
class Wiring:
    """What a guard's configuration says, checked.

    Attributes:
        nets: {name: its document}, in the order of `scores.NAMES`.
        rule: `measures` and `thresholds` of the `SavedGuard`.
        overlays: {measure: how many images its composing layer keeps}.
        hosts: their classes, for the measure that asks for them; else None.
        input_range: `InputRange`, or None where the file does not say.
        input_shape: (h, w, c) of the images.
        classes: N as the file states it, or None.
        layers: [(name, class name)] in Keras' order.
    """

    nets: dict
    rule: dict
    overlays: dict
    hosts: tuple | None
    input_range: InputRange | None
    input_shape: tuple
    classes: int | None
    layers: list


def guard_wiring(document, metadata):
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


def _wiring(document, metadata):
    config = document["config"]
    check_keys(document, LAYER_KEYS, "it")
    check_keys(config, MODEL_KEYS, "it")
    check_origin(document, "Functional", "guard")
    links, layers = _links(config["layers"])
    images, _ = only_end(config["input_layers"], "input_layers")
    shape = _input_shape(layers.pop(images))
    nets = {name: one for name, one in layers.items() if one["class_name"] == "Functional"}
    rest = {name: one for name, one in layers.items() if name not in nets}
    if tuple(nets) != scores.NAMES[: len(nets)] or not nets:
        raise ValueError(f"its nets are called {', '.join(nets) or 'nothing'}")
    kinds = [one["class_name"] for one in rest.values()]
    if kinds == ["Lambda"]:
        about = _disagreement(rest)
    elif set(kinds) == set(_PORTABLE):
        about = _portable(rest, metadata)
    else:
        about = _calibrated(nets, rest, links)
    if about["rule"] == HARD and len(nets) != 2:
        raise ValueError("it has not two nets")
    expected = {(images, 0): [], **_of_nets(nets, images, links), **about.pop("links")}
    odd = [one for one in {**links, **expected} if links.get(one) != expected.get(one)]
    if odd:
        raise ValueError(f"{odd[0][0]!r} takes {links.get(odd[0])}")
    output = only_end(config["output_layers"], "output_layers")
    if output != (next(reversed(about["names"])), 0):
        raise ValueError(f"its answer is that of {output[0]!r}")
    del about["names"]
    calls = {
        call: (call[0], [one for one in taken if isinstance(one, tuple)])
        for call, taken in links.items()
    }
    order, _ = keras_order(calls, output)
    classes = {images: "InputLayer", **{name: one["class_name"] for name, one in layers.items()}}
    return Wiring(
        nets=nets, input_shape=shape, layers=[(name, classes[name]) for name in order], **about
    )


def _links(documents):
    """({(layer, call): what it takes}, {name: document}), in the file's order."""
    links, layers, names = {}, {}, set()
    for one in documents:
        name = one["name"]
        check_once(name, names)
        check_keys(one, LAYER_KEYS, f"layer {str(name)[:60]!r}")
        if one["config"]["name"] != name:
            raise ValueError(f"a layer is called {str(name)[:60]!r} and otherwise")
        layers[name] = one
        for place, node in enumerate(one["inbound_nodes"]):
            links[(name, place)] = _sources(node)
        if not one["inbound_nodes"]:
            links[(name, 0)] = []
    return links, layers


def _sources(node):
    """What a call takes, in order: (layer, call) for results, plain numbers as they are."""
    if set(node["kwargs"]) - {"mask"} or any(one is not None for one in node["kwargs"].values()):
        raise ValueError("a layer is called with arguments")
    args = node["args"]
    flat = args[0] if len(args) == 1 and isinstance(args[0], list) else args
    sources = []
    for one in flat:
        if type(one) is int:
            sources.append(one)
            continue
        if one["class_name"] != "__keras_tensor__":
            raise ValueError("a layer takes no result of a layer")
        name, place, part = one["config"]["keras_history"]
        if part != 0:
            raise ValueError("a layer takes a second result")
        sources.append((name, place))
    return sources


def _input_shape(one):
    if one["class_name"] != "InputLayer":
        raise ValueError("its input is no input layer")
    check_origin(one, "InputLayer", "input")
    check_dtype(one["config"], "its input")
    return SCHEMAS["InputLayer"].checked(one["config"])["shape"]


def _of_nets(nets, images, links):
    """What the nets take: the images, and the bad one also each composed set, in any order."""
    taken = {(name, 0): [(images, 0)] for name in nets}
    further = [one for one in links if one[0] == "bad" and one[1] > 0]
    return {**taken, **{one: links[one] for one in further}}


def _disagreement(rest):
    ((name, one),) = rest.items()
    arguments = _lambda(one, "disagreement")
    input_range = None
    if arguments:
        (input_range,) = _named(arguments, "input_range")
        input_range = _range(input_range)
    return {
        "rule": HARD,
        "links": {(name, 0): [("bad", 0), ("repaired", 0)]},
        "names": [name],
        **_NO_OVERLAYS,
        "input_range": input_range,
        "classes": None,
    }


def _portable(rest, metadata):
    """Argmax of both nets; N in place of the class where they differ or are not finite."""
    kinds = [one["class_name"] for one in rest.values()]
    if sorted(map(str, kinds)) != sorted([*_PORTABLE, "Argmax", "Sum"]):
        raise ValueError(f"its operations are {', '.join(map(str, kinds))}")
    for one in rest.values():
        kind, module = one["class_name"], one["module"]
        plain = {key: value for key, value in one["config"].items() if key != "name"}
        plain = {
            key: value for key, value in plain.items() if value is not None and value is not False
        }
        if plain != _PORTABLE[kind] or one["registered_name"] not in (None, kind):
            raise ValueError(f"its operation {kind} is set to {plain}")
        if module not in ("keras.ops", "keras.src.ops.numpy", "keras.src.ops.core"):
            raise ValueError(f"its operation {kind} is of {str(module)[:40]!r}")
    names = {
        kind: [name for name, one in rest.items() if one["class_name"] == kind] for kind in kinds
    }
    (own, other), (sum_own, sum_other) = names["Argmax"], names["Sum"]
    singles = ("Add", "Isfinite", "Equal", "LogicalAnd", "FullLike", "Where", "Cast")
    total, finite, equal, alike, filled, chosen, cast = (names[kind][0] for kind in singles)
    full = [taken for taken in rest[filled]["inbound_nodes"][0]["args"] if type(taken) is int]
    links = {
        (own, 0): [("bad", 0)],
        (other, 0): [("repaired", 0)],
        (sum_own, 0): [("bad", 0)],
        (sum_other, 0): [("repaired", 0)],
        (total, 0): [(sum_own, 0), (sum_other, 0)],
        (finite, 0): [(total, 0)],
        (equal, 0): [(own, 0), (other, 0)],
        (alike, 0): [(equal, 0), (finite, 0)],
        (filled, 0): [(own, 0), *full],
        (chosen, 0): [(alike, 0), (own, 0), (filled, 0)],
        (cast, 0): [(chosen, 0)],
    }
    (classes,) = full
    stored = metadata.get(RANGE_NOTE)
    return {
        "rule": HARD,
        "links": links,
        "names": [cast],
        **_NO_OVERLAYS,
        "input_range": None if stored is None else _range(stored),
        "classes": classes,
    }


_NO_OVERLAYS = {"overlays": {}, "hosts": None}


def _calibrated(nets, rest, links):
    """A rule with thresholds, of measures that take the nets' answers."""
    composing, found = {}, {}
    for name, one in rest.items():
        kind = one["class_name"]
        (composing if kind in COMPOSING.values() else found)[name] = one
    *measured, verdict = found
    functions = {name: _function(found[name]) for name in measured}
    measures = tuple(functions.values())
    limits, input_range = _named(_lambda(found[verdict], "flag_above"), "thresholds", "input_range")
    overlays = _overlays(composing)
    right = (
        0 < len(measures) == len(set(measures)) == len(limits)
        and all(set(scores.NETS[one]) <= set(nets) for one in measures)
        and all(isinstance(one, float) and math.isfinite(one) for one in limits)
        and set(overlays) == set(COMPOSING) & set(measures)
    )
    if not right:
        raise ValueError("its measures, thresholds and images do not belong together")
    calls, at = _composed_calls(composing, overlays, links)
    hosts = None
    for name, measure in functions.items():
        arguments = _lambda(found[name], measure)
        taken = [(net, 0) for net in scores.NETS[measure]]
        if measure == "neg_entropy":
            (count,) = _named(arguments, "overlays")
            taken = [("bad", at[measure])]
            if count != overlays[measure][1]:
                raise ValueError("its overlays are counted otherwise")
        elif measure in scores.HOSTED and hosts is None:
            (hosts,) = _named(arguments, "hosts")
            taken = [("bad", 0), ("bad", at[measure])]
            whole = all(type(one) is int and one >= 0 for one in hosts)
            if not whole or len(hosts) != overlays[measure][1]:
                raise ValueError("the classes of its images are no classes")
        else:
            _named(arguments)
        calls[(name, 0)] = taken
    calls[(verdict, 0)] = [("bad", 0), *((name, 0) for name in measured)]
    return {
        "rule": {"measures": measures, "thresholds": tuple(limits)},
        "links": calls,
        "names": [*measured, verdict],
        "overlays": {measure: count for measure, (_, count) in overlays.items()},
        "hosts": None if hosts is None else tuple(hosts),
        "input_range": _range(input_range),
        "classes": None,
    }


def _overlays(composing):
    """{measure: (name of its composing layer, how many images it keeps)}."""
    kinds = {kind: measure for measure, kind in COMPOSING.items()}
    overlays = {}
    for name, one in composing.items():
        kind, config = one["class_name"], one["config"]
        check_keys(config, {"name", "trainable", "dtype", "count"}, f"layer {name!r}")
        check_dtype(config, f"layer {name!r}")
        if one["registered_name"] != _PACKAGE + kind or kinds[kind] in overlays:
            raise ValueError(f"its layer {name!r} is somebody else's")
        count = config["count"]
        if type(count) is not int or not 0 < count <= MOST_OVERLAYS:
            raise ValueError(f"it keeps {str(count)[:40]} images")
        overlays[kinds[kind]] = (name, count)
    return overlays


def _composed_calls(composing, overlays, links):
    """(what the composing layers take, {measure: which call of the bad net takes its images})."""
    names = {name: measure for measure, (name, _) in overlays.items()}
    calls = {(name, 0): links[("bad", 0)] for name in composing}
    at = {}
    for (name, place), taken in links.items():
        if name == "bad" and place > 0:
            ((source, call),) = taken
            if call != 0 or names[source] in at:
                raise ValueError(f"its suspect model takes {source!r} again")
            at[names[source]] = place
    return calls, at


def _lambda(one, function):
    """The arguments of a Lambda layer that calls this project's `function`, and does no more."""
    name, config = one["name"], one["config"]
    check_keys(config, _LAMBDA_KEYS, f"layer {name!r}")
    check_dtype(config, f"layer {name!r}")
    check_origin(one, "Lambda", name)
    if _function(one) != function or config.get("mask") is not None:
        raise ValueError(f"layer {name!r} calls another function")
    if config.get("output_shape") not in ([], None):
        raise ValueError(f"layer {name!r} says that it gives more than one number for an image")
    return config["arguments"]


def _function(one):
    """The name of a Lambda layer's registered function; `ValueError` for any other layer."""
    function = one["config"]["function"]
    name = function["config"]
    plain = one["class_name"] == "Lambda" and function["class_name"] == "function"
    plain = plain and function.get("module") in ("builtins", None)
    if not plain or not isinstance(name, str) or not name.startswith(_PACKAGE):
        raise ValueError(f"layer {str(one['name'])[:60]!r} calls a function of somebody else's")
    if function.get("registered_name") not in ("function", name, None):
        raise ValueError(f"layer {str(one['name'])[:60]!r} calls a function by two names")
    return name.removeprefix(_PACKAGE)


def _named(arguments, *names):
    """The values of exactly these arguments."""
    if set(arguments) != set(names):
        raise ValueError(f"a function is given {', '.join(map(str, arguments)) or 'nothing'}")
    return [arguments[name] for name in names]


def _range(value):
    low, high = value
    if not all(isinstance(one, float) and math.isfinite(one) for one in value) or low >= high:
        raise ValueError("its input range is none")
    return InputRange(low, high)
