"""What a net does to a mixture of two pictures, with the linear part done once for each of both.

The first convolution is linear: that of a mixture is the mixture of its parts'. And where maximum
pooling follows, the pooling comes before the activation (which keeps the order, so the result is
the same): one compiled step adds the parts and pools them, and only a pool's maximum is written.
"""

from dataclasses import replace

from badnet_defense.nets.graph import CONVOLUTIONS, consumers, submodel

KEEP_ORDER = ("linear", "relu", "relu6", "elu", "selu", "sigmoid", "tanh", "softplus")
"""Activations under which the maximum of several numbers stays the maximum."""


def split_linear(spec):
    """(first, mixed, rest) of a net (`Net`), so that the mixtures' answers are
    `rest(mixed(first(pictures), first(overlays)))`.

    `first` takes (n, h, w, c) scaled pictures and gives (phases, n, ..): halves of the first
    convolution's sums, one phase for each place in a pool; where the net has neither, halves of the
    pictures. `mixed` takes both kinds and gives (n * overlays, ..); `rest` gives the net's output.
    """
    import tensorflow as tf

    call = only_user(spec, 0)
    layer = None if call is None else spec.layers[spec.calls[call].layer]
    shared = layer and sum(one.layer == layer.name for one in spec.calls) > 1
    if layer is None or shared or layer.kind not in CONVOLUTIONS or call == spec.output:
        whole = submodel(spec, [0], [spec.output])
        return lambda pictures: (pictures / 2)[None], compiled_mixed(tf), whole
    plain = replace(layer, config={**layer.config, "activation": "linear"})
    linear = replace(spec, layers={**spec.layers, layer.name: plain}, output=call)
    sums = submodel(linear, [0], [call])
    pool = pool_after(spec, call, layer)
    if pool is None:
        rest = submodel(spec, [], [spec.output], sums=[call])
        return lambda pictures: (sums(pictures) / 2)[None], compiled_mixed(tf), rest
    window = spec.layers[spec.calls[pool].layer].config["pool_size"]
    activation = layer.config["activation"]
    return (
        lambda pictures: places(tf, sums(pictures) / 2, window),
        compiled_mixed(tf, activation),
        submodel(spec, [pool], [spec.output]),
    )


def only_user(spec, position):
    """Position of the only call that takes the result of the call at `position`, or None."""
    users = consumers(spec, position)
    return users[0] if len(users) == 1 else None


def pool_after(spec, call, layer):
    """Position of the maximum pooling that alone takes a convolution's result, or None.

    Only pools that neither overlap nor are padded, after an activation that keeps the order.
    """
    pool = only_user(spec, call)
    if pool is None or pool == spec.output or layer.config["activation"] not in KEEP_ORDER:
        return None
    after = spec.layers[spec.calls[pool].layer]
    if after.kind != "MaxPooling2D" or after.config["padding"] != "valid":
        return None
    return pool if tuple(after.config["strides"]) == tuple(after.config["pool_size"]) else None


def places(tf, sums, window):
    """(phases, n, h', w', c): what stands at each place of every pool of (n, h, w, c)."""
    down, across = window
    height, width = (
        side // step * step for side, step in zip(sums.shape[1:3], window, strict=True)
    )
    return tf.stack(
        [sums[:, y:height:down, x:width:across] for y in range(down) for x in range(across)]
    )


def compiled_mixed(tf, activation="linear"):
    """A function, (phases, n, ..) and (phases, k, ..) -> (n * k, ..): added, pooled, activated."""
    import keras

    @tf.function(jit_compile=True)
    def mixed(pictures, overlaid):
        largest = None
        for one, other in zip(tf.unstack(pictures), tf.unstack(overlaid), strict=True):
            both = one[:, None] + other
            largest = both if largest is None else tf.maximum(largest, both)
        largest = tf.reshape(largest, (-1, *largest.shape[2:]))
        return keras.activations.get(activation)(largest)

    return mixed
