"""Activation functions, by name and as layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from badnet_defense.nets.layers import checks
from badnet_defense.nets.layers.base import LayerSchema, Shape, Shapes, along_last_axis


def _softmax(x: np.ndarray) -> np.ndarray:
    raised = np.exp(x - x.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # With exponentials of negative numbers only: 0.5 (1 + tanh) is 0 far left, where this is not.
    raised = np.exp(-np.abs(x))
    return np.where(x >= 0, np.float32(1), raised) / (1 + raised)


def _elu(x: np.ndarray, alpha: float | np.float32 = 1.0) -> np.ndarray:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _gelu(x: np.ndarray) -> np.ndarray:
    # Keras' default is the exact form, with the error function; 1 + erf would be 0 far left.
    from scipy.special import erfc

    return np.float32(0.5) * x * erfc(x * np.float32(-np.sqrt(0.5)))


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x > 0, x, np.float32(0.2) * x),
    "softmax": _softmax,
    "sigmoid": _sigmoid,
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "tanh": np.tanh,
    "elu": _elu,
    "selu": lambda x: np.float32(1.05070098) * _elu(x, np.float32(1.67326324)),
    "softplus": lambda x: np.logaddexp(x, 0),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "exponential": np.exp,
    "gelu": _gelu,
    "silu": lambda x: x * _sigmoid(x),
    "swish": lambda x: x * _sigmoid(x),
}


def activation_name(value: Any) -> str:
    """The name of a plain activation; anything else (a custom function, a layer) is refused."""
    if value is None:
        return "linear"
    if not isinstance(value, str) or value not in ACTIVATIONS:
        if isinstance(value, dict):  # a function of somebody's own: its name tells the most
            value = value.get("config")
        raise ValueError(f"{str(value)[:60]!r} is not one of {', '.join(sorted(ACTIVATIONS))}")
    return value


def apply(name: str, x: np.ndarray) -> np.ndarray:
    """The activation of that name, element by element (softmax: over the last axis)."""
    return ACTIVATIONS[name](x).astype(np.float32, copy=False)


class Activation(LayerSchema):
    """An activation as a layer of its own."""

    settings = {"activation": (activation_name, ...)}

    @classmethod
    def forward(
        cls, config: dict[str, Any], weights: Sequence[np.ndarray], inputs: Sequence[np.ndarray]
    ) -> np.ndarray:
        return apply(config["activation"], inputs[0])


class ReLU(LayerSchema):
    """Rectified linear unit with the three settings that Keras knows."""

    settings = {
        "max_value": (checks.optional(checks.not_negative), None),
        "negative_slope": (checks.not_negative, 0.0),
        "threshold": (checks.not_negative, 0.0),
    }

    @classmethod
    def forward(
        cls, config: dict[str, Any], weights: Sequence[np.ndarray], inputs: Sequence[np.ndarray]
    ) -> np.ndarray:
        x, threshold = inputs[0], np.float32(config["threshold"])
        slope, limit = np.float32(config["negative_slope"]), config["max_value"]
        if slope and limit is None and not threshold:
            return np.where(x > 0, x, slope * x)
        # As Keras does it: NaN is above no threshold, but stays NaN where there is none.
        result = np.where(x > threshold, x, np.float32(0)) if threshold else np.maximum(x, 0)
        if limit is not None:
            result = np.clip(result, np.float32(0), np.float32(limit))
        return result - slope * np.maximum(threshold - x, 0) if slope else result


class LeakyReLU(LayerSchema):
    """ReLU with a slope below zero (`alpha` in Keras 1 and 2)."""

    settings = {"negative_slope": (checks.not_negative, 0.3)}
    renamed = {"alpha": "negative_slope"}

    @classmethod
    def forward(
        cls, config: dict[str, Any], weights: Sequence[np.ndarray], inputs: Sequence[np.ndarray]
    ) -> np.ndarray:
        x = inputs[0]
        return np.where(x > 0, x, np.float32(config["negative_slope"]) * x)


class Softmax(LayerSchema):
    """Softmax over the last axis."""

    settings = {"axis": (checks.last_axis, -1)}

    @classmethod
    def output_shape(cls, config: dict[str, Any], inputs: Shapes) -> Shape:
        return along_last_axis(config, inputs[0])

    @classmethod
    def forward(
        cls, config: dict[str, Any], weights: Sequence[np.ndarray], inputs: Sequence[np.ndarray]
    ) -> np.ndarray:
        return _softmax(inputs[0])
