"""The fully connected layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from badnet_defense.nets.layers import activation, checks
from badnet_defense.nets.layers.base import LayerSchema, Shape, Shapes


class Dense(LayerSchema):
    """A matrix over the last axis, kernel (inputs, units)."""

    settings = {
        "units": (checks.positive, ...),
        "activation": (activation.activation_name, "linear"),
        "use_bias": (checks.flag, True),
    }

    @classmethod
    def weight_shapes(cls, config: dict[str, Any], inputs: Shapes) -> dict[str, Shape]:
        bias = {"bias": (config["units"],)} if config["use_bias"] else {}
        return {"kernel": (inputs[0][-1], config["units"]), **bias}

    @classmethod
    def output_shape(cls, config: dict[str, Any], inputs: Shapes) -> Shape:
        return (*inputs[0][:-1], config["units"])

    @classmethod
    def multiplications(cls, config: dict[str, Any], inputs: Shapes) -> int:
        return math.prod(inputs[0]) * config["units"]

    @classmethod
    def forward(
        cls, config: dict[str, Any], weights: Sequence[np.ndarray], inputs: Sequence[np.ndarray]
    ) -> np.ndarray:
        result = inputs[0] @ weights[0]
        if config["use_bias"]:
            result = result + weights[1]
        return activation.apply(config["activation"], result)
