"""The fully connected layer."""

import math

from badnet_defense.nets.layers import activation, checks
from badnet_defense.nets.layers.base import LayerSchema


class Dense(LayerSchema):
    """A matrix over the last axis, kernel (inputs, units)."""

    settings = {
        "units": (checks.positive, ...),
        "activation": (activation.activation_name, "linear"),
        "use_bias": (checks.flag, True),
    }

    @classmethod
    def weight_shapes(cls, config, inputs):
        bias = {"bias": (config["units"],)} if config["use_bias"] else {}
        return {"kernel": (inputs[0][-1], config["units"]), **bias}

    @classmethod
    def output_shape(cls, config, inputs):
        return (*inputs[0][:-1], config["units"])

    @classmethod
    def multiplications(cls, config, inputs):
        return math.prod(inputs[0]) * config["units"]

    @classmethod
    def forward(cls, config, weights, inputs):
        result = inputs[0] @ weights[0]
        if config["use_bias"]:
            result = result + weights[1]
        return activation.apply(config["activation"], result)
