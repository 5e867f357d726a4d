"""Questions about a net's graph, and nets cut out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from badnet_defense.errors import InputError
from badnet_defense.nets.deep import deep_graphs
from badnet_defense.nets.net import Net, call_shapes

if TYPE_CHECKING:
    import keras

CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D")
MIXING = ("Conv2D", "SeparableConv2D", "Dense")
"""Layers whose results each depend on several channels."""
MAX_SUGGESTED = 3
"""At most this many late convolutions are named to somebody who has to choose one."""


def consumers(net: Net, position: int) -> list[int]:
    """Positions of the calls that take the result of the call at `position`."""
    return [later for later, call in enumerate(net.calls) if position in call.inputs]


def position_of(net: Net, layer: str) -> int:
    """Position of the only call of `layer`; raises `InputError` if it is not there or shared."""
    positions = [index for index, call in enumerate(net.calls) if call.layer == layer]
    if not positions:
        names = ", ".join(convolution_names(net))
        raise InputError(f"the net has no layer {layer!r}; its convolutions are {names or 'none'}.")
    if len(positions) > 1:
        raise InputError(f"layer {layer!r} is used {len(positions)} times; choose one used once.")
    return positions[0]


def convolution_names(net: Net) -> list[str]:
    """Names of the convolutions, in the order of their calls."""
    names = (call.layer for call in net.calls)
    return list(dict.fromkeys(n for n in names if net.layers[n].kind in CONVOLUTIONS))


def descendants(net: Net, position: int) -> set[int]:
    """Positions that depend on the call at `position`, itself among them."""
    found = {position}
    for later, call in enumerate(net.calls):
        if found.intersection(call.inputs):
            found.add(later)
    return found


def ancestors(net: Net, position: int) -> set[int]:
    """Positions that the call at `position` depends on, itself among them."""
    found = {position}
    for earlier in range(position, -1, -1):
        if earlier in found:
            found.update(net.calls[earlier].inputs)
    return found


def on_every_path(net: Net, position: int) -> bool:
    """True where no path from the images to the output avoids the call at `position`."""
    reached = {0}
    for later, call in enumerate(net.calls):
        if later != position and reached.intersection(call.inputs):
            reached.add(later)
    return net.output not in reached


def outputs_classes(net: Net, position: int) -> bool:
    """True where a layer's channels are the classes: nothing between it and the output mixes them.

    Such is the last convolution of a net that ends in Conv2D, pooling or flatten, and softmax.
    """
    used = ancestors(net, net.output)
    later = [net.calls[one].layer for one in descendants(net, position) & used if one != position]
    return not any(net.layers[name].kind in MIXING for name in later)


def feature_convolutions(net: Net) -> list[str]:
    """Names of the convolutions that are used once and do not put out the classes, in order."""
    places: dict[str, list[int]] = {}
    for position, call in enumerate(net.calls):
        places.setdefault(call.layer, []).append(position)
    return [
        name
        for name in convolution_names(net)
        if len(places[name]) == 1 and not outputs_classes(net, places[name][0])
    ]


def layer_to_prune(net: Net, layer: str | None = None) -> str:
    """The layer whose channels are ranked: `layer`, or the last convolution on every path.

    The last convolution may be only on a side path (DeepID's conv_4 is: fc_1 takes pool_3), where
    pruning it leaves the backdoor another way, so the last one on *every* path is taken (DeepID's
    conv_3), whatever its name: the name is the attacker's. Never a layer whose channels are the
    classes: pruning it deletes classes.

    Raises:
        InputError: there is no such layer, it is no convolution or puts out the classes, or no
            convolution lies on every path.
    """
    features = feature_convolutions(net)
    late = ", ".join(features[-MAX_SUGGESTED:])
    if layer is not None:
        position = position_of(net, layer)
        kind = net.layers[layer].kind
        if kind not in CONVOLUTIONS:
            raise InputError(
                f"layer {layer!r} is a {kind}; expected one of {', '.join(CONVOLUTIONS)}."
            )
        if outputs_classes(net, position):
            raise InputError(
                f"the channels of layer {layer!r} are the classes, and pruning it would delete "
                f"some; name an earlier convolution ({late or 'the net has none'})."
            )
        return layer
    for name in reversed(features):
        if on_every_path(net, position_of(net, name)):
            return name
    if features:
        raise InputError(
            "no convolution lies on every path to the output; choose a layer, such as a "
            f"late one ({late})."
        )
    only = "to prune"
    if convolution_names(net):
        only = "that is used once and whose channels are not the classes"
    raise InputError(
        f"{net.name}: the net has no convolution {only}; methods that need none are fine-tuning, "
        "ft-sam, i-bau, magnitude-pruning and scan-unlearning."
    )


def early_layer_warning(net: Net, layer: str) -> str | None:
    """A sentence where most of the net's convolutions lie behind the layer to be pruned, or None.

    In a residual net only the first convolution lies on every path: what comes later can be passed
    by, so that the topology alone gives no late layer.
    """
    features = feature_convolutions(net)
    place = features.index(layer) + 1
    if 2 * place > len(features) or len(features) < 2:
        return None
    late = ", ".join(features[-MAX_SUGGESTED:])
    return (
        f"the layer to prune, {layer}, is convolution {place} of {len(features)}, because the "
        "later ones lie on side paths (as in residual nets); a backdoor lives late, so choose "
        f"a late layer (the last are {late})"
    )


def submodel(
    net: Net, inputs: Sequence[int], outputs: Sequence[int], *, sums: Sequence[int] = ()
) -> keras.Model:
    """A `keras.Model` of a piece of the net.

    Args:
        net: the net.
        inputs: positions of the calls whose results are the model's first inputs.
        outputs: positions of the calls whose results are its outputs.
        sums: positions of linear layers whose sums, before the layer's activation, are its further
            inputs.

    Returns:
        a model that takes and gives one tensor, or a list of several.
    """
    import keras

    from badnet_defense.nets.build import connect

    shapes = call_shapes(net)
    starts = [keras.Input(shapes[position]) for position in (*inputs, *sums)]
    tensors = dict(zip((*inputs, *sums), starts, strict=True))
    for position in sums:
        layer = net.layers[net.calls[position].layer]
        activation = keras.layers.Activation(
            layer.config["activation"], name=f"{layer.name}.activation"
        )
        tensors[position] = activation(tensors[position])
    connect(net, tensors, outputs)
    ends = [tensors[position] for position in outputs]
    with deep_graphs(len(net.calls)):
        return keras.Model(
            starts if len(starts) > 1 else starts[0], ends if len(ends) > 1 else ends[0]
        )


def without_softmax(net: Net) -> Net:
    """The net whose output is the logits, if its last step is a softmax; else `net` itself."""
    last = net.calls[net.output]
    layer = net.layers[last.layer]
    if layer.kind == "Softmax" or layer.config.get("activation") == "softmax":
        if layer.kind in ("Softmax", "Activation"):
            return replace(net, output=last.inputs[0])
        plain = replace(layer, config={**layer.config, "activation": "linear"})
        return replace(net, layers={**net.layers, layer.name: plain})
    return net
