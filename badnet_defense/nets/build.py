"""Between a net's description and Keras: builds models from it, describes models by it."""

import json

from badnet_defense.errors import UnsafeNetError
from badnet_defense.nets.deep import deep_graphs
from badnet_defense.nets.parse import parse_model
from badnet_defense.nets.spec import NetSpec
from badnet_defense.nets.weights import with_weights


def build(spec: NetSpec):
    """A new `keras.Model` of `spec`: (n, h, w, c) -> (n, classes), its arrays copied in.

    Layers of `spec` that bring no arrays keep Keras' initial values.
    """
    import keras

    first = spec.layers[spec.calls[0].layer]
    tensors = {0: keras.Input(first.config["shape"], name=first.name)}
    connect(spec, tensors, [spec.output])
    with deep_graphs(len(spec.calls)):
        return keras.Model(tensors[0], tensors[spec.output], name=spec.name)


def connect(spec, tensors, outputs):
    """Adds to `tensors` (position -> Keras tensor) what the positions `outputs` need."""
    import keras

    made = {}
    for position in _needed(spec, tensors, outputs):
        call = spec.calls[position]
        layer = spec.layers[call.layer]
        if call.layer not in made:
            made[call.layer] = getattr(keras.layers, layer.kind)(**layer.config, name=layer.name)
        inputs = [tensors[source] for source in call.inputs]
        tensors[position] = made[call.layer](inputs[0] if len(inputs) == 1 else inputs)
    for name, layer in made.items():
        if spec.layers[name].weights:
            layer.set_weights(list(spec.layers[name].weights))


def _needed(spec, known, outputs):
    """Positions to compute, in order, for `outputs` from those `known`."""
    needed, waiting = set(), list(outputs)
    while waiting:
        position = waiting.pop()
        if position not in known and position not in needed:
            needed.add(position)
            waiting += spec.calls[position].inputs
    return sorted(needed)


def describe(model) -> NetSpec:
    """The description of a `keras.Model` in memory, with its present weights.

    Raises:
        UnsafeNetError: it is made of more than the allow-list's plain layers.
    """
    if getattr(model, "to_json", None) is None:
        raise UnsafeNetError(f"a {type(model).__name__} was given; expected a keras.Model.")
    spec, root = parse_model(json.loads(model.to_json()))
    arrays = {}
    _collect(model, root, arrays)
    return with_weights(spec, arrays)


def _collect(model, entry, arrays):
    for child in entry.children:
        if child.children:
            _collect(model.get_layer(child.name), child, arrays)
        elif child.children is None:
            named = model.get_layer(child.name)
            arrays[child.flat] = [
                weight.numpy() for weight in named.weights if "seed_generator" not in weight.path
            ]


def copy_net(model):
    """A new model that answers as `model` does; `clone_model` would run what a config names."""
    return build(describe(model))
