"""Batch normalisation and rescaling: a scale and an offset for each channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from badnet_defense.nets.arithmetic import SMALLEST
from badnet_defense.nets.layers import checks
from badnet_defense.nets.layers.base import LayerSchema, Shape, Shapes, along_last_axis


class BatchNormalization(LayerSchema):
    """Batch normalisation with its moving mean and variance, as at inference."""

    settings = {
        "axis": (checks.last_axis, -1),
        "momentum": (checks.number, 0.99),
        "epsilon": (checks.not_negative, 1e-3),
        "center": (checks.flag, True),
        "scale": (checks.flag, True),
        # Keras 1 and 2: how it is computed, not what.
        "fused": (checks.optional(checks.flag), None),
        "mode": (checks.one_of(0), 0),
    }

    @classmethod
    def checked(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        plain = super().checked(config)
        return {key: value for key, value in plain.items() if key not in ("fused", "mode")}

    @classmethod
    def weight_shapes(cls, config: dict[str, Any], inputs: Shapes) -> dict[str, Shape]:
        names = ["gamma"] * config["scale"] + ["beta"] * config["center"]
        shape = (inputs[0][-1],)
        return dict.fromkeys([*names, "moving_mean", "moving_variance"], shape)

    @classmethod
    def output_shape(cls, config: dict[str, Any], inputs: Shapes) -> Shape:
        return along_last_axis(config, inputs[0])

    @classmethod
    def check_weights(cls, config: dict[str, Any], weights: Sequence[np.ndarray]) -> None:
        least = (weights[-1] + np.float32(config["epsilon"])).min()
        if not least >= SMALLEST:  # its root would be zero, or none: infinity or NaN follows
            raise ValueError(
                f"its smallest variance and epsilon make {least:g} together; expected a positive "
                f"number from {SMALLEST:.2g}"
            )

    @classmethod
    def forward(
        cls, config: dict[str, Any], weights: Sequence[np.ndarray], inputs: Sequence[np.ndarray]
    ) -> np.ndarray:
        *learned, mean, variance = weights
        gain = 1.0 / np.sqrt(variance + np.float32(config["epsilon"]))
        if config["scale"]:
            gain = gain * learned[0]
        offset = learned[-1] if config["center"] else np.float32(0)
        return inputs[0] * gain + (offset - mean * gain)


class Rescaling(LayerSchema):
    """x * scale + offset."""

    settings = {
        "scale": (checks.numbers_or_number, ...),
        "offset": (checks.numbers_or_number, 0.0),
    }

    @classmethod
    def output_shape(cls, config: dict[str, Any], inputs: Shapes) -> Shape:
        for name in ("scale", "offset"):
            value = config[name]
            if isinstance(value, list) and len(value) != inputs[0][-1]:
                raise ValueError(f"{name} has {len(value)} values for {inputs[0][-1]} channels")
        return inputs[0]

    @classmethod
    def forward(
        cls, config: dict[str, Any], weights: Sequence[np.ndarray], inputs: Sequence[np.ndarray]
    ) -> np.ndarray:
        return inputs[0] * np.float32(config["scale"]) + np.float32(config["offset"])
