"""What a net does to a mixture of two images, with the linear part done once for each of both.

The first convolution is linear: that of a mixture is the mixture of its parts'. And where maximum
pooling follows, the pooling comes before the activation (which keeps the order, so the result is
the same): one compiled step adds the parts and pools them, and only a pool's maximum is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from badnet_defense.nets.graph import CONVOLUTIONS, consumers, submodel
from badnet_defense.nets.net import LayerSpec, Net

KEEP_ORDER = ("linear", "relu", "relu6", "elu", "selu", "sigmoid", "tanh", "softplus")
"""Activations under which the maximum of several numbers stays the maximum."""


def split_linear(net: Net) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """(first, mixed, rest) of a net, so that the mixtures' answers are
    `rest(mixed(first(images), first(overlays)))`.

    `first` takes (n, h, w, c) scaled images and gives (phases, n, ..): halves of the first
    convolution's sums, one phase for each place in a pool; where the net has neither, halves of the
    images. `mixed` takes both kinds and gives (n * overlays, ..); `rest` gives the net's output.
    """
    import tensorflow as tf

    call = only_user(net, 0)
    layer = None if call is None else net.layers[net.calls[call].layer]
    shared = layer and sum(other.layer == layer.name for other in net.calls) > 1
    plain_start = layer is not None and not shared and layer.kind in CONVOLUTIONS
    if call is None or layer is None or not plain_start or call == net.output:
        whole = submodel(net, [0], [net.output])
        return lambda images: (images / 2)[None], compiled_mixed(tf), whole
    plain = replace(layer, config={**layer.config, "activation": "linear"})
    linear = replace(net, layers={**net.layers, layer.name: plain}, output=call)
    sums = submodel(linear, [0], [call])
    pool = pool_after(net, call, layer)
    if pool is None:
        rest = submodel(net, [], [net.output], sums=[call])
        return lambda images: (sums(images) / 2)[None], compiled_mixed(tf), rest
    window = net.layers[net.calls[pool].layer].config["pool_size"]
    activation = layer.config["activation"]
    return (
        lambda images: places(tf, sums(images) / 2, window),
        compiled_mixed(tf, activation),
        submodel(net, [pool], [net.output]),
    )


def only_user(net: Net, position: int) -> int | None:
    """Position of the only call that takes the result of the call at `position`, or None."""
    users = consumers(net, position)
    return users[0] if len(users) == 1 else None


def pool_after(net: Net, call: int, layer: LayerSpec) -> int | None:
    """Position of the maximum pooling that alone takes a convolution's result, or None.

    Only pools that neither overlap nor are padded, after an activation that keeps the order.
    """
    pool = only_user(net, call)
    if pool is None or pool == net.output or layer.config["activation"] not in KEEP_ORDER:
        return None
    after = net.layers[net.calls[pool].layer]
    if after.kind != "MaxPooling2D" or after.config["padding"] != "valid":
        return None
    return pool if tuple(after.config["strides"]) == tuple(after.config["pool_size"]) else None


def places(tf: Any, sums: Any, window: tuple[int, int]) -> Any:
    """(phases, n, h', w', c): what stands at each place of every pool of (n, h, w, c)."""
    down, across = window
    height, width = (
        side // step * step for side, step in zip(sums.shape[1:3], window, strict=True)
    )
    return tf.stack(
        [sums[:, y:height:down, x:width:across] for y in range(down) for x in range(across)]
    )


def compiled_mixed(tf: Any, activation: str = "linear") -> Callable[..., Any]:
    """A function, (phases, n, ..) and (phases, k, ..) -> (n * k, ..): added, pooled, activated."""
    import keras

    @tf.function(jit_compile=True)
    def mixed(images: Any, overlaid: Any) -> Any:
        largest: Any = None
        for image, overlay in zip(tf.unstack(images), tf.unstack(overlaid), strict=True):
            both = image[:, None] + overlay
            largest = both if largest is None else tf.maximum(largest, both)
        largest = tf.reshape(largest, (-1, *largest.shape[2:]))
        return keras.activations.get(activation)(largest)

    return mixed
