"""Layers that take a result in linearly: their sums change by one channel's share at a time."""

from dataclasses import dataclass, replace

import numpy as np

from badnet_defense.nets.graph import consumers, part
from badnet_defense.nets.spec import call_shapes


@dataclass(frozen=True)
class LinearConsumer:
    """A convolution or dense layer fed by the frontier.

    Args:
        position: of its call.
        layer: its `LayerSpec`.
        kernels: one kernel for each channel of the frontier: (channels, h * w, units) for a dense
            layer, (channels, rows, columns, 1, filters) for a convolution.
    """

    position: int
    layer: object
    kernels: np.ndarray

    def share(self, change, channel):
        """How the sums change where a channel changes by the tensor `change` (n, h, w) or (n,)."""
        import tensorflow as tf

        kernel = tf.gather(self.kernels, channel)
        if self.layer.kind == "Dense":
            return tf.reshape(change, [tf.shape(change)[0], -1]) @ kernel
        config = self.layer.config
        return tf.nn.convolution(
            change[..., None],
            kernel,
            strides=config["strides"],
            padding=config["padding"].upper(),
            dilations=config["dilation_rate"],
        )


def linear_consumers(spec, frontier):
    """The layers that take the frontier in; empty where one of them is not linear in it."""
    shape = call_shapes(spec)[frontier]
    found = []
    for position in consumers(spec, frontier):
        flat = spec.layers[spec.calls[position].layer].kind == "Flatten"
        for later in consumers(spec, position) if flat else [position]:
            layer = spec.layers[spec.calls[later].layer]
            kernels = _kernels(layer, shape[-1], flat or len(shape) == 1)
            if kernels is None:
                return []
            found.append(LinearConsumer(later, layer, kernels))
    distinct = len({consumer.layer.name for consumer in found}) == len(found)
    return found if distinct else []


def _kernels(layer, channels, flat):
    if layer.kind == "Dense" and flat:
        return layer.weights[0].reshape(-1, channels, layer.config["units"]).transpose(1, 0, 2)
    if layer.kind == "Conv2D" and layer.config["groups"] == 1:
        return layer.weights[0].transpose(2, 0, 1, 3)[:, :, :, None]
    return None


def sums_model(spec, frontier, linear):
    """A `keras.Model`: frontier -> sums of the `linear` layers, before their activations."""
    layers = dict(spec.layers)
    for consumer in linear:
        config = {**consumer.layer.config, "activation": "linear"}
        layers[consumer.layer.name] = replace(consumer.layer, config=config)
    plain = replace(spec, layers=layers)
    return part(plain, [frontier], [consumer.position for consumer in linear])
