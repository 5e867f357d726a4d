"""Suspect nets whose outputs are no probabilities, as nets whose outputs are, and back.

`read_net` gives a file as Keras answers it. Everything behind it counts on a distribution over two
and more classes: pseudo-labels, detectors, guards. So a net that ends in logits or in sigmoids is
read with another end that names the same class, and a repair of it is written with its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from os import PathLike

import numpy as np

from badnet_defense.errors import InputError
from badnet_defense.nets.input_range import InputRange
from badnet_defense.nets.layers import SCHEMAS
from badnet_defense.nets.net import Call, LayerSpec, Net
from badnet_defense.nets.reader import read_net

log = logging.getLogger(__name__)

FORM = "output_form"
"""Under which attribute a converted `Net` keeps what its output was in the file."""
SOFTMAX, LOGITS, SIGMOIDS, SIGMOID = "softmax", "logits", "sigmoids", "sigmoid"
_TOLD = {
    LOGITS: "its outputs are no probabilities; a softmax is appended, which keeps the class",
    SIGMOIDS: "its outputs are sigmoids; the softmax of the same logits is taken, which keeps "
    "the class",
    SIGMOID: "its one output is a sigmoid; it is taken for two classes, 1 above 0.5 and 0 else",
}
_APPENDED = "probabilities"
_NOTHING_DONE = ("Dropout", "SpatialDropout2D")


def load_net(path: str | PathLike[str], input_range: InputRange | None = None) -> Net:
    """Loads an image classifier that nobody trusts; no code from the file ever runs.

    Args:
        path: a Keras file, `.h5` or `.keras`, built from standard layers.
        input_range: the pixel values that the model takes for black and for white; default: the
            range recorded in the file (a repair records it), else [0, 1].

    Returns:
        a `Net` whose outputs are class probabilities: a softmax is added to logits, and a single
        sigmoid becomes two classes.

    Raises:
        InputError: there is no such file, it is no classifier, or it records another range than
            `input_range`.
        UnsafeNetError: it is made of more than plain layers and plain weights; the message names
            the layer or the weight.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> from badnet_defense.nets import deep_id, load_net, save_net
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_net(deep_id(classes=10), f"{folder}/net.h5")
        ...     net = load_net(f"{folder}/net.h5")
        >>> net.predict(np.zeros((2, 55, 47, 3), "uint8")).shape
        (2,)
    """
    return read_classifier(path, input_range)


def read_classifier(path: str | PathLike[str], input_range: InputRange | None = None) -> Net:
    """The net in `path` as a `Net` that answers with probabilities; see `read_net`.

    Raises:
        InputError: also for a net with one output that is no sigmoid.

    Examples:
        >>> import tempfile
        >>> from badnet_defense.nets import deep_id, read_classifier, save_net
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_net(deep_id(classes=10), f"{folder}/net.h5")
        ...     net = read_classifier(f"{folder}/net.h5")
        >>> net.classes, str(net.input_range)
        (10, '0,1')
    """
    net = read_net(path, input_range)
    try:
        found = as_probabilities(net)
    except InputError as error:
        raise type(error)(f"{path}: {error}") from None
    if (form := found.attributes.get(FORM)) in _TOLD:
        log.info("%s: %s.", path, _TOLD[form])
    return found


def as_probabilities(net: Net) -> Net:
    """`net` with an output that is a distribution over its classes, and names the same class.

    Args:
        net: a `Net`. Where it ends in a softmax it is given back as it is. Sigmoids become the
            softmax of the same logits; one sigmoid becomes the softmax of two logits, 0 and its
            own, which is exactly the same; everything else gets a softmax behind it.

    Raises:
        InputError: its one output is no sigmoid, so that it names no class.

    Examples:
        >>> import keras
        >>> from badnet_defense.nets import as_probabilities, describe
        >>> layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(4)]
        >>> as_probabilities(describe(keras.Sequential(layers))).attributes
        {'output_form': 'logits'}
    """
    place = _end(net)
    layer = net.layers[net.calls[place].layer]
    if net.classes == 1:
        return _two_classes(net, place)
    if activation_of(layer) == "softmax" or _hidden_softmax(net, place):
        return net
    if activation_of(layer) == "sigmoid" and _once(net, layer.name):
        return _noting(_with_activation(net, layer, "softmax"), SIGMOIDS)
    name = _APPENDED
    while name in net.layers:
        name += "_"
    appended = LayerSpec("Softmax", name, SCHEMAS["Softmax"].checked({}))
    calls = (*net.calls, Call(name, (net.output,)))
    layers = {**net.layers, name: appended}
    return _noting(replace(net, layers=layers, calls=calls, output=len(calls) - 1), LOGITS)


def as_given(net: Net, form: str | None) -> Net:
    """A net that came from `as_probabilities`, perhaps repaired since, in its file's own form.

    Args:
        net: `Net`.
        form: what the converted net's `attributes` say under `FORM`, or None.

    Examples:
        >>> import keras
        >>> from badnet_defense.nets import as_given, as_probabilities, describe
        >>> layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(4)]
        >>> net = as_probabilities(describe(keras.Sequential(layers)))
        >>> len(net.calls), len(as_given(net, "logits").calls)
        (4, 3)
    """
    place = _end(net)
    last = net.layers[net.calls[place].layer]
    if form == LOGITS:
        layers = {name: one for name, one in net.layers.items() if name != last.name}
        output = net.calls[place].inputs[0]
        calls = tuple(call for call in net.calls if call.layer != last.name)
        return replace(net, layers=layers, calls=calls, output=output)
    if form == SIGMOIDS:
        return _with_activation(net, last, "sigmoid")
    if form == SIGMOID:
        net = _with_activation(net, last, "sigmoid")
        name = _dense(net, place)
        if name is None:
            raise InputError("its output is no Dense layer's any more; expected two logits of one.")
        return _with_units(net, name, lambda one: one[..., 1:] - one[..., :1])
    return net


def is_distribution(net: Net) -> bool:
    """True where a net (`Net`) answers with probabilities of two and more classes."""
    try:
        return as_probabilities(net) is net
    except InputError:
        return False


def activation_of(layer: LayerSpec) -> str:
    """The activation of a layer, "softmax" for a Softmax layer, or "linear"."""
    return "softmax" if layer.kind == "Softmax" else layer.config.get("activation", "linear")


def _end(net: Net) -> int:
    """Position of the last call that does something at inference."""
    place = net.output
    while True:
        call = net.calls[place]
        layer = net.layers[call.layer]
        idle = layer.kind == "Activation" and layer.config["activation"] == "linear"
        if not idle and layer.kind not in _NOTHING_DONE:
            return place
        place = call.inputs[0]


def _hidden_softmax(net: Net, place: int) -> bool:
    """True where a softmax over all classes is only laid out anew behind."""
    from badnet_defense.nets.net import call_shapes

    shapes = call_shapes(net)
    while net.layers[net.calls[place].layer].kind in ("Flatten", "Reshape"):
        place = net.calls[place].inputs[0]
    layer = net.layers[net.calls[place].layer]
    return activation_of(layer) == "softmax" and shapes[place][-1] == net.classes


def _once(net: Net, name: str) -> bool:
    return sum(call.layer == name for call in net.calls) == 1


def _two_classes(net: Net, place: int) -> Net:
    """One sigmoid as the softmax of two logits: e^z / (e^0 + e^z) is the sigmoid of z."""
    last = net.layers[net.calls[place].layer]
    name = _dense(net, place)
    if activation_of(last) != "sigmoid" or name is None:
        raise InputError(
            f"its output is one number (layer {last.name!r}, {last.kind}), not a Dense layer's "
            "sigmoid, so it names no class; expected one output for each class, or one sigmoid."
        )
    net = _with_activation(net, last, "softmax")
    wider = _with_units(net, name, lambda one: np.concatenate([0 * one, one], axis=-1))
    return _noting(wider, SIGMOID)


def _dense(net: Net, place: int) -> str | None:
    """The name of the Dense layer that makes the output at `place`, or None."""
    layer = net.layers[net.calls[place].layer]
    if layer.kind == "Activation":
        place = net.calls[place].inputs[0]
        layer = net.layers[net.calls[place].layer]
        if activation_of(layer) != "linear":
            return None
    single = sum(place in call.inputs for call in net.calls) <= 1 and _once(net, layer.name)
    return layer.name if layer.kind == "Dense" and single else None


def _with_units(net: Net, name: str, change: Callable[[np.ndarray], np.ndarray]) -> Net:
    """`net` with the weights of its last Dense layer changed along their last axis."""
    layer = net.layers[name]
    weights = tuple(np.ascontiguousarray(change(one)) for one in layer.weights)
    units = 3 - layer.config["units"]  # one for two, two for one
    changed = replace(layer, config={**layer.config, "units": units}, weights=weights)
    return replace(net, layers={**net.layers, name: changed})


def _with_activation(net: Net, layer: LayerSpec, activation: str) -> Net:
    """`net` with another activation in a layer that has one; a Softmax becomes an Activation."""
    kind = "Activation" if layer.kind == "Softmax" else layer.kind
    config = {"activation": activation} if layer.kind == "Softmax" else layer.config
    changed = replace(layer, kind=kind, config={**config, "activation": activation})
    return replace(net, layers={**net.layers, layer.name: changed})


def _noting(net: Net, form: str) -> Net:
    return replace(net, attributes={**net.attributes, FORM: form})
