"""Convolutions: plain, depthwise and separable."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from badnet_defense.nets.layers import activation, checks
from badnet_defense.nets.layers.base import DATA_FORMAT, LayerSchema, Shape, Shapes, image_shape


def _span(size: int, dilation: int) -> int:
    return (size - 1) * dilation + 1


def slid_length(length: int, size: int, stride: int, padding: str, dilation: int = 1) -> int:
    """How many places a window of `size` takes along `length` pixels."""
    places = -(-length // stride)
    if padding == "valid":
        places = (length - _span(size, dilation)) // stride + 1
    if places < 1:
        raise ValueError(f"a window of {size} does not fit into {length} pixels")
    return places


def window_steps(
    length: int, size: int, stride: int, padding: str, dilation: int = 1
) -> Iterator[tuple[int, slice, slice]]:
    """What each place of a window meets along an axis, so that no window is ever written out.

    Args:
        length: pixels along the axis.
        size, stride, padding, dilation: the window's.

    Yields:
        (place in the window, slice of the result, slice of the pixels) for the places that meet
        pixels at all; what lies outside of the image is left out.
    """
    count = slid_length(length, size, stride, padding, dilation)
    before = 0
    if padding == "same":
        before = max((count - 1) * stride + _span(size, dilation) - length, 0) // 2
    for place in range(size):
        start = place * dilation - before  # the pixel that the first result meets there
        first = max(0, -(start // stride))
        last = min(count, (length - 1 - start) // stride + 1)
        if first < last:
            pixels = slice(start + first * stride, start + (last - 1) * stride + 1, stride)
            yield place, slice(first, last), pixels


def _convolved(
    x: np.ndarray,
    kernel: np.ndarray,
    config: dict[str, Any],
    multiply: Callable[[np.ndarray, np.ndarray], np.ndarray],
    channels: int,
) -> np.ndarray:
    """(n, rows, columns, channels): the sum over the kernel's places of what `multiply` gives."""
    axes = [
        (*axis[:3], config["padding"], axis[3])
        for axis in zip(
            x.shape[1:3],
            kernel.shape[:2],
            config["strides"],
            config["dilation_rate"],
            strict=True,
        )
    ]
    result = np.zeros((len(x), *(slid_length(*axis) for axis in axes), channels), np.float32)
    columns = list(window_steps(*axes[1]))
    for down, rows, from_rows in window_steps(*axes[0]):
        for across, places, pixels in columns:
            result[:, rows, places] += multiply(x[:, from_rows, pixels], kernel[down, across])
    return result


def convolve(x: np.ndarray, kernel: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """Convolution of images (n, h, w, c) with a kernel (kh, kw, c / groups, filters)."""
    groups = x.shape[-1] // kernel.shape[2]

    def multiply(pixels: np.ndarray, weights: np.ndarray) -> np.ndarray:
        if groups == 1:
            return pixels @ weights
        parts = pixels.reshape(*pixels.shape[:3], groups, 1, -1)
        by_group = weights.reshape(len(weights), groups, -1).transpose(1, 0, 2)
        return (parts @ by_group).reshape(*pixels.shape[:3], -1)

    return _convolved(x, kernel, config, multiply, kernel.shape[3])


def _depthwise(x: np.ndarray, kernel: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    def multiply(pixels: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return (pixels[..., None] * weights).reshape(*pixels.shape[:3], -1)

    return _convolved(x, kernel, config, multiply, kernel.shape[2] * kernel.shape[3])


def _finished(x: np.ndarray, config: dict[str, Any], weights: Sequence[np.ndarray]) -> np.ndarray:
    if config["use_bias"]:
        x = x + weights[-1]
    return activation.apply(config["activation"], x)


_SLIDING = {
    "kernel_size": (checks.pair, ...),
    "strides": (checks.pair, (1, 1)),
    "padding": (checks.padding_mode, "valid"),
    "dilation_rate": (checks.pair, (1, 1)),
    "activation": (activation.activation_name, "linear"),
    "use_bias": (checks.flag, True),
    "data_format": DATA_FORMAT,
}


def _slid(config: dict[str, Any], shape: Shape) -> Shape:
    if max(config["strides"]) > 1 and max(config["dilation_rate"]) > 1:
        raise ValueError("strides and dilation are both above 1, which Keras does not support")
    sizes = zip(
        image_shape(shape)[:2],
        config["kernel_size"],
        config["strides"],
        config["dilation_rate"],
        strict=True,
    )
    return tuple(
        slid_length(length, size, stride, config["padding"], dilation)
        for length, size, stride, dilation in sizes
    )


def _bias(config: dict[str, Any], count: int) -> dict[str, Shape]:
    return {"bias": (count,)} if config["use_bias"] else {}


class Conv2D(LayerSchema):
    """A convolution with a kernel (rows, columns, channels / groups, filters)."""

    settings = {"filters": (checks.positive, ...), "groups": (checks.positive, 1), **_SLIDING}

    @classmethod
    def weight_shapes(cls, config: dict[str, Any], inputs: Shapes) -> dict[str, Shape]:
        channels = image_shape(inputs[0])[2]
        if channels % config["groups"] or config["filters"] % config["groups"]:
            raise ValueError(f"{config['groups']} groups do not divide its channels")
        kernel = (*config["kernel_size"], channels // config["groups"], config["filters"])
        return {"kernel": kernel, **_bias(config, config["filters"])}

    @classmethod
    def output_shape(cls, config: dict[str, Any], inputs: Shapes) -> Shape:
        return (*_slid(config, inputs[0]), config["filters"])

    @classmethod
    def multiplications(cls, config: dict[str, Any], inputs: Shapes) -> int:
        each = math.prod(config["kernel_size"]) * inputs[0][2] // config["groups"]
        return math.prod(cls.output_shape(config, inputs)) * each

    @classmethod
    def forward(
        cls, config: dict[str, Any], weights: Sequence[np.ndarray], inputs: Sequence[np.ndarray]
    ) -> np.ndarray:
        return _finished(convolve(inputs[0], weights[0], config), config, weights)


class DepthwiseConv2D(LayerSchema):
    """A convolution of each channel for itself, kernel (rows, columns, channels, multiplier)."""

    settings = {
        "depth_multiplier": (checks.positive, 1),
        **_SLIDING,
        # Keras 2 writes these of the class that DepthwiseConv2D stood on; they say nothing.
        "filters": (checks.optional(checks.positive), None),
        "groups": (checks.positive, 1),
    }

    @classmethod
    def checked(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        plain = super().checked(config)
        return {key: value for key, value in plain.items() if key not in ("filters", "groups")}

    @classmethod
    def weight_shapes(cls, config: dict[str, Any], inputs: Shapes) -> dict[str, Shape]:
        channels = image_shape(inputs[0])[2]
        kernel = (*config["kernel_size"], channels, config["depth_multiplier"])
        return {"kernel": kernel, **_bias(config, channels * config["depth_multiplier"])}

    @classmethod
    def output_shape(cls, config: dict[str, Any], inputs: Shapes) -> Shape:
        return (*_slid(config, inputs[0]), inputs[0][2] * config["depth_multiplier"])

    @classmethod
    def multiplications(cls, config: dict[str, Any], inputs: Shapes) -> int:
        return math.prod(cls.output_shape(config, inputs)) * math.prod(config["kernel_size"])

    @classmethod
    def forward(
        cls, config: dict[str, Any], weights: Sequence[np.ndarray], inputs: Sequence[np.ndarray]
    ) -> np.ndarray:
        return _finished(_depthwise(inputs[0], weights[0], config), config, weights)


class SeparableConv2D(LayerSchema):
    """A depthwise convolution and a 1x1 convolution behind it."""

    settings = {
        "filters": (checks.positive, ...),
        "depth_multiplier": (checks.positive, 1),
        **_SLIDING,
        "groups": (checks.one_of(1), 1),
    }

    @classmethod
    def checked(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        plain = super().checked(config)
        del plain["groups"]
        return plain

    @classmethod
    def weight_shapes(cls, config: dict[str, Any], inputs: Shapes) -> dict[str, Shape]:
        channels, multiplier = image_shape(inputs[0])[2], config["depth_multiplier"]
        return {
            "depthwise_kernel": (*config["kernel_size"], channels, multiplier),
            "pointwise_kernel": (1, 1, channels * multiplier, config["filters"]),
            **_bias(config, config["filters"]),
        }

    @classmethod
    def output_shape(cls, config: dict[str, Any], inputs: Shapes) -> Shape:
        return (*_slid(config, inputs[0]), config["filters"])

    @classmethod
    def intermediate_size(cls, config: dict[str, Any], inputs: Shapes) -> int:
        rows, columns = _slid(config, inputs[0])
        return rows * columns * inputs[0][2] * config["depth_multiplier"]

    @classmethod
    def multiplications(cls, config: dict[str, Any], inputs: Shapes) -> int:
        each = math.prod(config["kernel_size"]) + config["filters"]
        return cls.intermediate_size(config, inputs) * each

    @classmethod
    def forward(
        cls, config: dict[str, Any], weights: Sequence[np.ndarray], inputs: Sequence[np.ndarray]
    ) -> np.ndarray:
        between = _depthwise(inputs[0], weights[0], config)
        return _finished(between @ weights[1][0, 0], config, weights)
