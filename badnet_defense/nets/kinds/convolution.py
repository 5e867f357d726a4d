"""Convolutions: plain, depthwise and separable."""

import numpy as np

from badnet_defense.nets.kinds import activation, checks
from badnet_defense.nets.kinds.base import DATA_FORMAT, Kind, picture_shape


def _span(size, dilation):
    return (size - 1) * dilation + 1


def slid_length(length, size, stride, padding, dilation=1):
    """How many places a window of `size` takes along `length` pixels."""
    places = -(-length // stride)
    if padding == "valid":
        places = (length - _span(size, dilation)) // stride + 1
    if places < 1:
        raise ValueError(f"a window of {size} does not fit into {length} pixels")
    return places


def windows(x, size, strides, padding, dilation=(1, 1), fill=0.0):
    """All windows of pictures (n, h, w, c) as a view (n, rows, columns, c, kh, kw)."""
    spans = [_span(*axis) for axis in zip(size, dilation, strict=True)]
    if padding == "same":
        margins = []
        for length, span, stride in zip(x.shape[1:3], spans, strides, strict=True):
            total = max((-(-length // stride) - 1) * stride + span - length, 0)
            margins.append((total // 2, total - total // 2))
        x = np.pad(x, ((0, 0), *margins, (0, 0)), constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(x, spans, axis=(1, 2))
    return view[:, :: strides[0], :: strides[1], :, :: dilation[0], :: dilation[1]]


def convolve(x, kernel, config):
    """Convolution of pictures (n, h, w, c) with a kernel (kh, kw, c / groups, filters)."""
    patches = windows(
        x, kernel.shape[:2], config["strides"], config["padding"], config["dilation_rate"]
    )
    groups = x.shape[-1] // kernel.shape[2]
    parts = zip(np.split(patches, groups, axis=3), np.split(kernel, groups, axis=3), strict=True)
    results = [np.tensordot(p, k, axes=((3, 4, 5), (2, 0, 1))) for p, k in parts]
    return np.concatenate(results, axis=-1)


def _depthwise(x, kernel, config):
    patches = windows(
        x, kernel.shape[:2], config["strides"], config["padding"], config["dilation_rate"]
    )
    result = np.einsum("nrcaij,ijam->nrcam", patches, kernel, optimize=True)
    return result.reshape(*result.shape[:3], -1)


def _finished(x, config, weights):
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


def _slid(config, shape):
    if max(config["strides"]) > 1 and max(config["dilation_rate"]) > 1:
        raise ValueError("strides and dilation are both above 1, which Keras does not support")
    sizes = zip(
        picture_shape(shape)[:2],
        config["kernel_size"],
        config["strides"],
        config["dilation_rate"],
        strict=True,
    )
    return tuple(
        slid_length(length, size, stride, config["padding"], dilation)
        for length, size, stride, dilation in sizes
    )


def _bias(config, count):
    return {"bias": (count,)} if config["use_bias"] else {}


class Conv2D(Kind):
    """A convolution with a kernel (rows, columns, channels / groups, filters)."""

    settings = {"filters": (checks.positive, ...), "groups": (checks.positive, 1), **_SLIDING}

    @classmethod
    def weight_shapes(cls, config, inputs):
        channels = picture_shape(inputs[0])[2]
        if channels % config["groups"] or config["filters"] % config["groups"]:
            raise ValueError(f"{config['groups']} groups do not divide its channels")
        kernel = (*config["kernel_size"], channels // config["groups"], config["filters"])
        return {"kernel": kernel, **_bias(config, config["filters"])}

    @classmethod
    def output_shape(cls, config, inputs):
        return (*_slid(config, inputs[0]), config["filters"])

    @classmethod
    def forward(cls, config, weights, inputs):
        return _finished(convolve(inputs[0], weights[0], config), config, weights)


class DepthwiseConv2D(Kind):
    """A convolution of each channel for itself, kernel (rows, columns, channels, multiplier)."""

    settings = {
        "depth_multiplier": (checks.positive, 1),
        **_SLIDING,
        # Keras 2 writes these of the class that DepthwiseConv2D stood on; they say nothing.
        "filters": (checks.optional(checks.positive), None),
        "groups": (checks.positive, 1),
    }

    @classmethod
    def checked(cls, config):
        plain = super().checked(config)
        return {key: value for key, value in plain.items() if key not in ("filters", "groups")}

    @classmethod
    def weight_shapes(cls, config, inputs):
        channels = picture_shape(inputs[0])[2]
        kernel = (*config["kernel_size"], channels, config["depth_multiplier"])
        return {"kernel": kernel, **_bias(config, channels * config["depth_multiplier"])}

    @classmethod
    def output_shape(cls, config, inputs):
        return (*_slid(config, inputs[0]), inputs[0][2] * config["depth_multiplier"])

    @classmethod
    def forward(cls, config, weights, inputs):
        return _finished(_depthwise(inputs[0], weights[0], config), config, weights)


class SeparableConv2D(Kind):
    """A depthwise convolution and a 1x1 convolution behind it."""

    settings = {
        "filters": (checks.positive, ...),
        "depth_multiplier": (checks.positive, 1),
        **_SLIDING,
        "groups": (checks.one_of(1), 1),
    }

    @classmethod
    def checked(cls, config):
        plain = super().checked(config)
        del plain["groups"]
        return plain

    @classmethod
    def weight_shapes(cls, config, inputs):
        channels, multiplier = picture_shape(inputs[0])[2], config["depth_multiplier"]
        return {
            "depthwise_kernel": (*config["kernel_size"], channels, multiplier),
            "pointwise_kernel": (1, 1, channels * multiplier, config["filters"]),
            **_bias(config, config["filters"]),
        }

    @classmethod
    def output_shape(cls, config, inputs):
        return (*_slid(config, inputs[0]), config["filters"])

    @classmethod
    def values_between(cls, config, inputs):
        rows, columns = _slid(config, inputs[0])
        return rows * columns * inputs[0][2] * config["depth_multiplier"]

    @classmethod
    def forward(cls, config, weights, inputs):
        between = _depthwise(inputs[0], weights[0], config)
        return _finished(between @ weights[1][0, 0], config, weights)
