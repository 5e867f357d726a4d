"""Layers that join two and more inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from badnet_defense.nets.layers import checks
from badnet_defense.nets.layers.base import LayerSchema, Shape, Shapes


class _Merge(LayerSchema):
    inputs = None
    _join: Callable[..., Any]

    @classmethod
    def output_shape(cls, config: dict[str, Any], inputs: Shapes) -> Shape:
        try:
            return np.broadcast_shapes(*inputs)
        except ValueError:
            raise ValueError(f"its inputs have the shapes {inputs}") from None

    @classmethod
    def forward(
        cls, config: dict[str, Any], weights: Sequence[np.ndarray], inputs: Sequence[np.ndarray]
    ) -> np.ndarray:
        most = max(one.ndim for one in inputs)
        return reduce(cls._join, [_of_rank(one, most) for one in inputs])


def _of_rank(x: np.ndarray, axes: int) -> np.ndarray:
    """(n, ..) with axes of length 1 behind the first, as Keras joins inputs of other ranks."""
    return x.reshape(len(x), *(1,) * (axes - x.ndim), *x.shape[1:])


class Add(_Merge):
    """The sum of its inputs."""

    _join = np.add


class Multiply(_Merge):
    """The product of its inputs."""

    _join = np.multiply


class Subtract(_Merge):
    """The difference of its two inputs."""

    _join = np.subtract

    @classmethod
    def output_shape(cls, config: dict[str, Any], inputs: Shapes) -> Shape:
        if len(inputs) != 2:
            raise ValueError(f"it takes two inputs, but gets {len(inputs)}")
        return super().output_shape(config, inputs)


class Concatenate(LayerSchema):
    """Its inputs one behind the other along the last axis."""

    settings = {"axis": (checks.last_axis, -1)}
    inputs = None

    @classmethod
    def output_shape(cls, config: dict[str, Any], inputs: Shapes) -> Shape:
        if config["axis"] not in (-1, len(inputs[0])) or len({s[:-1] for s in inputs}) != 1:
            raise ValueError(f"its inputs have the shapes {inputs}")
        return (*inputs[0][:-1], sum(shape[-1] for shape in inputs))

    @classmethod
    def forward(
        cls, config: dict[str, Any], weights: Sequence[np.ndarray], inputs: Sequence[np.ndarray]
    ) -> np.ndarray:
        return np.concatenate(inputs, axis=-1)
