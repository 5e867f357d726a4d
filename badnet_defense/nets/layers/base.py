"""What a kind of layer must say of itself: its settings, its weights, its shape and its sum."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from badnet_defense.nets.layers import checks

Shape = tuple[int, ...]
"""Without the batch axis."""
Shapes = Sequence[Shape]

# Settings of every Keras layer that do not change what a trained net answers. They are passed over:
# nothing in them is ever built, so an initializer that names a function stays a string.
IGNORED_KEYS = frozenset(
    "name trainable dtype batch_input_shape input_shape batch_size build_config "
    "activity_regularizer "
    "kernel_initializer bias_initializer depthwise_initializer pointwise_initializer "
    "kernel_regularizer bias_regularizer depthwise_regularizer pointwise_regularizer "
    "kernel_constraint bias_constraint depthwise_constraint pointwise_constraint "
    "beta_initializer gamma_initializer moving_mean_initializer moving_variance_initializer "
    "beta_regularizer gamma_regularizer beta_constraint gamma_constraint synchronized "
    "input_dtype "
    # These two say how renorm works, which must be unset.
    "renorm_clipping renorm_momentum".split()
)
# These change the answers when set, so only "not set" passes.
MUST_BE_UNSET = frozenset(
    "renorm virtual_batch_size adjustment sparse ragged quantization_config lora_rank lora_alpha"
    "".split()
)


class LayerSchema:
    """A plain Keras layer. Subclasses fill in the settings and the four questions below.

    Attributes:
        settings: name -> (check, default); what is neither here nor passed over is refused.
        renamed: names that earlier Keras versions used for a setting.
        inputs: how many inputs a call takes: 1, or None for two and more.
    """

    settings: dict[str, tuple[Callable[[Any], Any], Any]] = {}
    renamed: dict[str, str] = {}
    inputs: int | None = 1

    @classmethod
    def checked(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """`config` as Keras 3 takes it; raises `ValueError` that names the setting."""
        plain = {name: default for name, (_, default) in cls.settings.items() if default is not ...}
        seen = set()
        for given, value in config.items():
            name = cls.renamed.get(given, given)
            if name in seen:  # Keras would take one of them, which depends on its version
                raise ValueError(f"setting {name!r} came twice, by different names")
            seen.add(name)
            if name in cls.settings:
                try:
                    plain[name] = cls.settings[name][0](value)
                except ValueError as error:
                    raise ValueError(f"setting {given!r}: {error}") from None
            elif given in MUST_BE_UNSET:
                if value not in (None, False):
                    raise ValueError(f"setting {given!r} is not supported")
            elif given not in IGNORED_KEYS:
                raise ValueError(f"unknown setting {given!r}")
        missing = [name for name in cls.settings if name not in plain]
        if missing:
            raise ValueError(f"setting {missing[0]!r} is missing")
        return plain

    @classmethod
    def weight_shapes(cls, config: dict[str, Any], inputs: Shapes) -> dict[str, Shape]:
        """Name -> shape of each weight, in Keras' order, for calls with input shapes `inputs`."""
        return {}

    @classmethod
    def output_shape(cls, config: dict[str, Any], inputs: Shapes) -> Shape:
        """Shape of the result without the batch axis; `ValueError` where `inputs` don't fit."""
        return inputs[0]

    @classmethod
    def intermediate_size(cls, config: dict[str, Any], inputs: Shapes) -> int:
        """How many values of one image stand between a layer's own steps; 0 for most."""
        return 0

    @classmethod
    def multiplications(cls, config: dict[str, Any], inputs: Shapes) -> int:
        """How many multiplications, or steps as dear, the result for one image takes."""
        return math.prod(cls.output_shape(config, inputs))

    @classmethod
    def check_weights(cls, config: dict[str, Any], weights: Sequence[np.ndarray]) -> None:
        """Raises `ValueError` where weights of the right shapes hold what cannot be computed."""

    @classmethod
    def forward(
        cls, config: dict[str, Any], weights: Sequence[np.ndarray], inputs: Sequence[np.ndarray]
    ) -> np.ndarray:
        """The result (n, ..) at inference, in NumPy."""
        return inputs[0]


def image_shape(shape: Shape) -> Shape:
    """(height, width, channels), or `ValueError`."""
    if len(shape) != 3:
        raise ValueError(f"it needs (height, width, channels), but gets {shape}")
    return shape


def along_last_axis(config: dict[str, Any], shape: Shape) -> Shape:
    """`shape`, or `ValueError` where the setting `axis` is not its last one."""
    if config["axis"] not in (-1, len(shape)):
        raise ValueError(f"axis {config['axis']} of {shape} is not the last one")
    return shape


DATA_FORMAT = (checks.channels_last, "channels_last")
