"""Between a net's description and Keras: builds models from it, describes models by it."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from badnet_defense.errors import UnsafeNetError
from badnet_defense.nets.deep import deep_graphs
from badnet_defense.nets.input_range import UNIT, InputRange
from badnet_defense.nets.net import Net
from badnet_defense.nets.parse import Entry, parse_model
from badnet_defense.nets.weights import with_weights

if TYPE_CHECKING:
    import keras


def build(net: Net) -> keras.Model:
    """A new `keras.Model` of `net`: (n, h, w, c) -> (n, classes), its arrays copied in.

    Layers of `net` that bring no arrays keep Keras' initial values.

    Examples:
        >>> from badnet_defense.nets import build, deep_id, describe
        >>> build(describe(deep_id(classes=10))).output_shape
        (None, 10)
    """
    import keras

    first = net.layers[net.calls[0].layer]
    tensors = {0: keras.Input(first.config["shape"], name=first.name)}
    connect(net, tensors, [net.output])
    with deep_graphs(len(net.calls)):
        return keras.Model(tensors[0], tensors[net.output], name=net.name)


def connect(net: Net, tensors: dict[int, Any], outputs: Sequence[int]) -> None:
    """Adds to `tensors` (position -> Keras tensor) what the positions `outputs` need."""
    import keras

    made, free = {}, _free_names(net)
    for position in _needed(net, tensors, outputs):
        call = net.calls[position]
        layer = net.layers[call.layer]
        inputs = [tensors[source] for source in call.inputs]
        if layer.kind == "Add" and len({one.shape for one in inputs}) > 1:
            tensors[position] = _broadcast_sum(layer.name, inputs, free)
            continue
        if call.layer not in made:
            made[call.layer] = getattr(keras.layers, layer.kind)(**layer.config, name=layer.name)
            _work_around(made[call.layer])
        tensors[position] = made[call.layer](inputs[0] if len(inputs) == 1 else inputs)
    for name, layer in made.items():
        if net.layers[name].weights:
            layer.set_weights(list(net.layers[name].weights))


def _free_names(net: Net) -> Callable[[str], str]:
    """A function that gives a name, or the next of its kind that no layer of the net has."""
    taken = set()

    def free(name: str) -> str:
        number, found = 1, name
        while found in taken or (found != name and found in net.layers):
            found, number = f"{name}_{number}", number + 1
        taken.add(found)
        return found

    return free


def _broadcast_sum(name: str, inputs: Sequence[Any], free: Callable[[str], str]) -> Any:
    """The sum of tensors of different shapes, as differences: a + b is a - (-b), to the last bit.

    Keras' own Add takes (n, 1) for a bias where n, the batch, happens to equal the other's units.
    """
    import keras

    total = inputs[0]
    for one in inputs[1:]:
        negative = keras.layers.Rescaling(-1.0, name=free(f"{name}.negative"))(one)
        total = keras.layers.Subtract(name=free(name))([total, negative])
    return total


def _work_around(layer: keras.Layer) -> None:
    """Gives a layer another way to compute the same where TensorFlow's own way crashes.

    The gradient of a 1x1 convolution with strides ends the process in TensorFlow 2.21 on some
    shapes (8 channels, even sides from 60). It looks at each s-th pixel only, so these are taken
    first, and the convolution goes without strides. The layer's settings stay as they are.
    """
    import keras
    from keras import ops

    plain = type(layer) is keras.layers.Conv2D and layer.groups == 1
    if not plain or layer.kernel_size != (1, 1) or layer.strides == (1, 1):
        return
    down, across = layer.strides

    def convolution(images: Any, kernel: Any) -> Any:
        return ops.conv(images[:, ::down, ::across], kernel, 1, "valid", "channels_last")

    layer.convolution_op = convolution


def _needed(net: Net, known: Container[int], outputs: Sequence[int]) -> list[int]:
    """Positions to compute, in order, for `outputs` from those `known`."""
    needed, waiting = set(), list(outputs)
    while waiting:
        position = waiting.pop()
        if position not in known and position not in needed:
            needed.add(position)
            waiting += net.calls[position].inputs
    return sorted(needed)


def describe(model: keras.Model, input_range: InputRange = UNIT) -> Net:
    """The `Net` of a `keras.Model` in memory, with its present weights.

    Args:
        model: a `keras.Model` built from plain layers; it is unchanged.
        input_range: the pixel values that the model takes for black and for white.

    Raises:
        UnsafeNetError: it is made of more than the allow-list's plain layers.

    Examples:
        >>> from badnet_defense.nets import deep_id, describe
        >>> from badnet_defense.nets.input_range import InputRange
        >>> net = describe(deep_id(classes=10), InputRange(0, 255))
        >>> net.classes, net.layers["conv_3"].config["filters"], str(net.input_range)
        (10, 60, '0,255')
    """
    if getattr(model, "to_json", None) is None:
        raise UnsafeNetError(f"a {type(model).__name__} was given; expected a keras.Model.")
    net, root = parse_model(json.loads(model.to_json()))
    arrays: dict[str, list[np.ndarray]] = {}
    _collect(model, root, arrays)
    return with_weights(net, arrays).with_range(input_range)


def _collect(model: keras.Model, entry: Entry, arrays: dict[str, list[np.ndarray]]) -> None:
    for child in entry.inner:
        if child.children:
            _collect(model.get_layer(child.name), child, arrays)
        elif child.children is None:
            named = model.get_layer(child.name)
            arrays[child.flat] = [
                weight.numpy() for weight in named.weights if "seed_generator" not in weight.path
            ]


def copy_model(model: keras.Model) -> keras.Model:
    """A new model that answers as `model` does; `clone_model` would run what a config names.

    Examples:
        >>> from badnet_defense.nets import copy_model, deep_id
        >>> copy_model(deep_id(classes=10)).output_shape
        (None, 10)
    """
    return build(describe(model))
