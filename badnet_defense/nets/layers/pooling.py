"""Pooling over windows and over whole images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from badnet_defense.nets.layers import checks
from badnet_defense.nets.layers.base import DATA_FORMAT, LayerSchema, Shape, Shapes, image_shape
from badnet_defense.nets.layers.convolution import slid_length, window_steps


class _Pooling(LayerSchema):
    settings = {
        "pool_size": (checks.pair, (2, 2)),
        "strides": (checks.optional(checks.pair), None),
        "padding": (checks.padding_mode, "valid"),
        "data_format": DATA_FORMAT,
    }

    @classmethod
    def output_shape(cls, config: dict[str, Any], inputs: Shapes) -> Shape:
        *size, channels = image_shape(inputs[0])
        strides = config["strides"] or config["pool_size"]
        slid = zip(size, config["pool_size"], strides, strict=True)
        return (*(slid_length(*axis, config["padding"]) for axis in slid), channels)

    @classmethod
    def multiplications(cls, config: dict[str, Any], inputs: Shapes) -> int:
        return math.prod(cls.output_shape(config, inputs)) * math.prod(config["pool_size"])

    @classmethod
    def _joined(
        cls, x: np.ndarray, config: dict[str, Any], join: np.ufunc, start: float
    ) -> np.ndarray:
        """Windows of images (n, h, w, c) joined by `join`: down the rows, then across them."""
        strides = config["strides"] or config["pool_size"]
        for axis, size, stride in zip((1, 2), config["pool_size"], strides, strict=True):
            count = slid_length(x.shape[axis], size, stride, config["padding"])
            shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
            result = np.full(shape, start, np.float32)
            for _, places, pixels in window_steps(x.shape[axis], size, stride, config["padding"]):
                there = (slice(None),) * axis
                join(result[(*there, places)], x[(*there, pixels)], out=result[(*there, places)])
            x = result
        return x


class MaxPooling2D(_Pooling):
    """The largest value of each window."""

    @classmethod
    def forward(
        cls, config: dict[str, Any], weights: Sequence[np.ndarray], inputs: Sequence[np.ndarray]
    ) -> np.ndarray:
        return cls._joined(inputs[0], config, np.maximum, -np.inf)


class AveragePooling2D(_Pooling):
    """The mean of each window, of the pixels that lie inside the image."""

    @classmethod
    def forward(
        cls, config: dict[str, Any], weights: Sequence[np.ndarray], inputs: Sequence[np.ndarray]
    ) -> np.ndarray:
        inside = cls._joined(np.ones_like(inputs[0][:1, ..., :1]), config, np.add, 0.0)
        return cls._joined(inputs[0], config, np.add, 0.0) / inside


class _GlobalPooling(LayerSchema):
    settings = {"keepdims": (checks.flag, False), "data_format": DATA_FORMAT}
    _pool: Callable[..., Any]

    @classmethod
    def output_shape(cls, config: dict[str, Any], inputs: Shapes) -> Shape:
        channels = image_shape(inputs[0])[2]
        return (1, 1, channels) if config["keepdims"] else (channels,)

    @classmethod
    def multiplications(cls, config: dict[str, Any], inputs: Shapes) -> int:
        return math.prod(inputs[0])

    @classmethod
    def forward(
        cls, config: dict[str, Any], weights: Sequence[np.ndarray], inputs: Sequence[np.ndarray]
    ) -> np.ndarray:
        return cls._pool(inputs[0], axis=(1, 2), keepdims=config["keepdims"])


class GlobalAveragePooling2D(_GlobalPooling):
    """The mean of each channel."""

    _pool = np.mean


class GlobalMaxPooling2D(_GlobalPooling):
    """The largest value of each channel."""

    _pool = np.max
