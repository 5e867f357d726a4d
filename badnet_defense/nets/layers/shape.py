"""Layers that move values without changing them, and the input."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from badnet_defense.nets.layers import checks
from badnet_defense.nets.layers.base import DATA_FORMAT, LayerSchema, Shape, Shapes, image_shape


def _input_shape(value: Any) -> Shape:
    if not isinstance(value, list | tuple) or len(value) != 4 or value[0] is not None:
        raise ValueError(f"{value!r} is not (None, height, width, channels)")
    if None in value[1:]:
        raise ValueError(f"{value!r} leaves the image size open; only fixed sizes are supported")
    return tuple(checks.positive(item) for item in value[1:])


class InputLayer(LayerSchema):
    """The images: `shape` is (height, width, channels)."""

    settings = {"shape": (_input_shape, ...), "optional": (checks.one_of(False), False)}
    renamed = {"batch_shape": "shape", "batch_input_shape": "shape"}
    inputs = 0

    @classmethod
    def checked(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        return {"shape": super().checked(config)["shape"]}


class Flatten(LayerSchema):
    """All values in one row."""

    settings = {"data_format": DATA_FORMAT}

    @classmethod
    def output_shape(cls, config: dict[str, Any], inputs: Shapes) -> Shape:
        return (math.prod(inputs[0]),)

    @classmethod
    def forward(
        cls, config: dict[str, Any], weights: Sequence[np.ndarray], inputs: Sequence[np.ndarray]
    ) -> np.ndarray:
        return inputs[0].reshape(len(inputs[0]), -1)


def _target(value: Any) -> Shape:
    if not isinstance(value, list | tuple) or list(value).count(-1) > 1:
        raise ValueError(f"{value!r} is not a shape")
    return tuple(-1 if item == -1 else checks.positive(item) for item in value)


class Reshape(LayerSchema):
    """The same values in another shape; one axis may be -1."""

    settings = {"target_shape": (_target, ...)}

    @classmethod
    def output_shape(cls, config: dict[str, Any], inputs: Shapes) -> Shape:
        total, target = math.prod(inputs[0]), config["target_shape"]
        fixed = math.prod(size for size in target if size != -1)
        open_axis = total // fixed if -1 in target else 1
        if fixed * open_axis != total:
            raise ValueError(f"{inputs[0]} does not fit into {target}")
        return tuple(open_axis if size == -1 else size for size in target)

    @classmethod
    def forward(
        cls, config: dict[str, Any], weights: Sequence[np.ndarray], inputs: Sequence[np.ndarray]
    ) -> np.ndarray:
        shape = cls.output_shape(config, [inputs[0].shape[1:]])
        return inputs[0].reshape(len(inputs[0]), *shape)


def _margins(value: Any) -> tuple[tuple[int, ...], ...]:
    if isinstance(value, list | tuple) and len(value) == 2:
        rows, columns = value
        ends = [
            tuple(map(checks.integer, side))
            if isinstance(side, list | tuple)
            else (checks.integer(side),) * 2
            for side in (rows, columns)
        ]
        if all(len(side) == 2 for side in ends):
            return tuple(ends)
        raise ValueError(f"{value!r} is not ((top, bottom), (left, right))")
    return ((checks.integer(value),) * 2,) * 2


class ZeroPadding2D(LayerSchema):
    """A black margin around the image."""

    settings = {"padding": (_margins, ((1, 1), (1, 1))), "data_format": DATA_FORMAT}

    @classmethod
    def output_shape(cls, config: dict[str, Any], inputs: Shapes) -> Shape:
        height, width, channels = image_shape(inputs[0])
        rows, columns = config["padding"]
        return (height + sum(rows), width + sum(columns), channels)

    @classmethod
    def forward(
        cls, config: dict[str, Any], weights: Sequence[np.ndarray], inputs: Sequence[np.ndarray]
    ) -> np.ndarray:
        return np.pad(inputs[0], ((0, 0), *config["padding"], (0, 0)))


class Dropout(LayerSchema):
    """Nothing at inference."""

    settings = {
        "rate": (checks.number, ...),
        "seed": (checks.optional(checks.number), None),
        "noise_shape": (checks.one_of(None), None),
    }
    renamed = {"p": "rate"}

    @classmethod
    def checked(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        plain = super().checked(config)
        if not 0 <= plain["rate"] < 1:
            raise ValueError(f"setting 'rate': {plain['rate']} lies outside 0..1")
        return {"rate": plain["rate"]}


class SpatialDropout2D(Dropout):
    """Nothing at inference; whole channels are dropped in training."""

    settings = {**Dropout.settings, "data_format": DATA_FORMAT}
