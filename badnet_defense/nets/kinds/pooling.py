"""Pooling over windows and over whole pictures."""

import numpy as np

from badnet_defense.nets.kinds import checks
from badnet_defense.nets.kinds.base import DATA_FORMAT, Kind, picture_shape
from badnet_defense.nets.kinds.convolution import slid_length, windows


class _Pooling(Kind):
    settings = {
        "pool_size": (checks.pair, (2, 2)),
        "strides": (checks.optional(checks.pair), None),
        "padding": (checks.padding_mode, "valid"),
        "data_format": DATA_FORMAT,
    }

    @classmethod
    def output_shape(cls, config, inputs):
        *size, channels = picture_shape(inputs[0])
        strides = config["strides"] or config["pool_size"]
        slid = zip(size, config["pool_size"], strides, strict=True)
        return (*(slid_length(*axis, config["padding"]) for axis in slid), channels)

    @classmethod
    def _windows(cls, x, config, fill):
        strides = config["strides"] or config["pool_size"]
        return windows(x, config["pool_size"], strides, config["padding"], fill=fill)


class MaxPooling2D(_Pooling):
    """The largest value of each window."""

    @classmethod
    def forward(cls, config, weights, inputs):
        return cls._windows(inputs[0], config, -np.inf).max(axis=(4, 5))


class AveragePooling2D(_Pooling):
    """The mean of each window, of the pixels that lie inside the picture."""

    @classmethod
    def forward(cls, config, weights, inputs):
        inside = cls._windows(np.ones_like(inputs[0]), config, 0.0).sum(axis=(4, 5))
        return cls._windows(inputs[0], config, 0.0).sum(axis=(4, 5)) / inside


class _GlobalPooling(Kind):
    settings = {"keepdims": (checks.flag, False), "data_format": DATA_FORMAT}
    _pool = None

    @classmethod
    def output_shape(cls, config, inputs):
        channels = picture_shape(inputs[0])[2]
        return (1, 1, channels) if config["keepdims"] else (channels,)

    @classmethod
    def forward(cls, config, weights, inputs):
        return cls._pool(inputs[0], axis=(1, 2), keepdims=config["keepdims"])


class GlobalAveragePooling2D(_GlobalPooling):
    """The mean of each channel."""

    _pool = np.mean


class GlobalMaxPooling2D(_GlobalPooling):
    """The largest value of each channel."""

    _pool = np.max
