"""The channels of a layer: which calls see them one by one, and how they are silenced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from badnet_defense.nets.graph import consumers, position_of
from badnet_defense.nets.net import LayerSpec, Net, call_shapes

_ELEMENTWISE = ("Activation", "ReLU", "LeakyReLU")
_CHANNELWISE = (
    *_ELEMENTWISE,
    *("BatchNormalization", "Dropout", "SpatialDropout2D", "ZeroPadding2D", "Rescaling"),
    *("MaxPooling2D", "AveragePooling2D", "GlobalMaxPooling2D", "GlobalAveragePooling2D"),
)


def channel_count(net: Net, layer: str) -> int:
    """How many channels the layer puts out."""
    return call_shapes(net)[position_of(net, layer)][-1]


def channelwise_run(net: Net, layer: str) -> list[int]:
    """Positions from the layer's call on, one behind the other, that keep its channels apart.

    It ends before the first call that mixes channels, or where the result is used twice.
    """
    run = [position_of(net, layer)]
    while run[-1] != net.output:
        following = consumers(net, run[-1])
        if len(following) != 1:
            break
        next_layer = net.layers[net.calls[following[0]].layer]
        mixes = next_layer.config.get("activation") == "softmax"
        if next_layer.kind not in _CHANNELWISE or mixes:
            break
        run.append(following[0])
    return run


def activation_position(net: Net, layer: str) -> int:
    """Where the layer's activations are seen: behind its own activation, or the next layer's.

    A convolution without an activation of its own, followed by batch normalisation and ReLU, is
    judged behind the ReLU, since only there "dormant" means "near zero".
    """
    run = channelwise_run(net, layer)
    if net.layers[layer].config["activation"] == "linear":
        for position in run[1:]:
            kind = net.layers[net.calls[position].layer].kind
            if kind in _ELEMENTWISE:
                return position
            if kind != "BatchNormalization":
                break
    return run[0]


def zero_channels(net: Net, layer: str, channels: Sequence[int] | slice | np.ndarray) -> Net:
    """A `Net` whose `layer` puts out nothing on `channels`: kernel and bias are zero there.

    Where batch normalisation follows directly, its scale and offset of those channels are zeroed
    too: it would otherwise turn the zeros into a constant of its own.

    Args:
        net: the net; unchanged.
        layer: a convolution's name.
        channels: channel numbers, or a boolean mask of all channels.
    """
    layers = dict(net.layers)
    layers[layer] = _silenced(net.layers[layer], channels)
    for position in channelwise_run(net, layer)[1:]:
        follower = net.layers[net.calls[position].layer]
        if follower.kind != "BatchNormalization":
            break
        layers[follower.name] = _silenced_normalisation(follower, channels)
    return replace(net, layers=layers)


def channel_masks(
    net: Net, layer: str, channels: Sequence[int] | slice | np.ndarray
) -> dict[str, list[np.ndarray]]:
    """{layer name: [mask of each weight]}: 0 where `zero_channels` zeroes, 1 elsewhere."""
    ones = {
        name: replace(item, weights=tuple(np.ones_like(weight) for weight in item.weights))
        for name, item in net.layers.items()
    }
    zeroed = zero_channels(replace(net, layers=ones), layer, channels).layers
    return {
        name: [weight == 1 for weight in item.weights]
        for name, item in zeroed.items()
        if item is not ones[name] and item.config.get("scale", True)
    }


def _silenced(layer: LayerSpec, channels: Sequence[int] | slice | np.ndarray) -> LayerSpec:
    *kernels, last = (weight.copy() for weight in layer.weights)
    if layer.config["use_bias"]:
        last[channels] = 0
    else:
        kernels.append(last)
    kernel = kernels[-1]
    if layer.kind == "DepthwiseConv2D":  # its output channels are (channel, multiplier) pairs
        flat = kernel.reshape(*kernel.shape[:2], -1)
        flat[..., channels] = 0
        kernel[...] = flat.reshape(kernel.shape)
    else:
        kernel[..., channels] = 0
    return replace(layer, weights=(*kernels, last) if layer.config["use_bias"] else tuple(kernels))


def _silenced_normalisation(
    layer: LayerSpec, channels: Sequence[int] | slice | np.ndarray
) -> LayerSpec:
    weights = [weight.copy() for weight in layer.weights]
    if layer.config["scale"]:
        weights[0][channels] = 0
    if layer.config["center"]:
        offset = weights[int(layer.config["scale"])]
        mean, variance = weights[-2:]
        rest = -mean / np.sqrt(variance + np.float32(layer.config["epsilon"]))
        offset[channels] = 0 if layer.config["scale"] else -rest[channels]
    return replace(layer, weights=tuple(weights))
