"""Magnitude pruning while tuning: ever more of the smallest weights are held at zero.

Zhu and Gupta, "To Prune, or Not to Prune", 2017: sparsity rises from nothing to its end by a cubic
polynomial. Two of the challenge's published solutions used it. Departure: the schedule ends at
half of the steps, and only epochs after that may be kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from badnet_defense.errors import InputError
from badnet_defense.io.dataset import Dataset
from badnet_defense.nets.net import Net
from badnet_defense.repairs.recipes import RECIPES, Recipe
from badnet_defense.repairs.registry import REPAIRS
from badnet_defense.repairs.validated_tuning import tune_with_validation

KERNELS = ("Conv2D", "Dense")
LEVELS = 20
"""In how many steps the sparsity rises."""
MAGNITUDE = replace(RECIPES["classic"], epochs=10, least_steps=800, batch_size=128)


@dataclass(frozen=True, kw_only=True)
class MagnitudePruningConfig:
    """Settings of magnitude pruning.

    Args:
        sparsity: fraction of each kernel that is zero in the end, in [0, 1).
        tuning: how the net is tuned meanwhile.
    """

    sparsity: float = 0.5
    tuning: Recipe = MAGNITUDE

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise InputError(f"sparsity {self.sparsity}: expected a number from 0 to below 1.")


@REPAIRS.register(
    "magnitude-pruning",
    summary="makes a sparse net: holds half of each kernel, its smallest weights, at zero",
    config=MagnitudePruningConfig,
    paper="Zhu and Gupta, To Prune, or Not to Prune, 2017",
    keeps_untouched=True,
)
def prune_magnitudes(
    net: Net,
    data: Dataset,
    *,
    config: MagnitudePruningConfig = MagnitudePruningConfig(),
    targets: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[Net, dict[str, Any]]:
    """Tunes a net while the smallest weights of each kernel are zeroed for good.

    Args:
        net: the suspect model; unchanged.
        data: clean images with labels.
        config: the settings.
        targets: (n, N) soft labels to tune on; None: the labels of `data`.
        seed: of the split and of the tuning.

    Returns:
        (the repaired `Net`, report: `sparsity` and `tuning` as plain numbers).
    """
    schedule = PolynomialSparsity(net, config.sparsity)
    tuned, tuning = tune_with_validation(
        net, data, targets=targets, recipe=config.tuning, after_step=schedule, seed=seed
    )
    return tuned, {"sparsity": config.sparsity, "tuning": tuning.as_dict()}


class PolynomialSparsity:
    """After each step, holds the smallest weights of each kernel at zero."""

    def __init__(self, net: Net, final: float, *, power: int = 3, ends: float = 0.5) -> None:
        self.names = [name for name, layer in net.layers.items() if layer.kind in KERNELS]
        self.final, self.power, self.ends = final, power, ends
        self.masks: list[np.ndarray] = []
        self.level = -1

    def sparsity(self, done: float) -> float:
        """Fraction of zeros after this fraction of all steps."""
        return self.final * (1 - (1 - min(done / self.ends, 1)) ** self.power)

    def __call__(self, model: Any, done: float) -> bool:
        """Zeroes weights of a `keras.Model`; True once the final sparsity is reached."""
        kernels = [model.get_layer(name).kernel for name in self.names]
        level = min(int(LEVELS * done / self.ends), LEVELS)
        if level != self.level:
            self.level = level
            fraction = self.sparsity(level / LEVELS * self.ends)
            self.masks = [smallest_zeroed(kernel.numpy(), fraction) for kernel in kernels]
        for kernel, mask in zip(kernels, self.masks, strict=True):
            kernel.assign(kernel * mask)
        return level == LEVELS


def smallest_zeroed(weights: np.ndarray, fraction: float) -> np.ndarray:
    """A mask of `weights`: 0 on the fraction of them with the smallest magnitudes, else 1.

    Examples:
        >>> smallest_zeroed(np.array([0.1, -2.0, 0.0, 0.5]), 0.5)
        array([0., 1., 0., 1.], dtype=float32)
    """
    count = round(fraction * weights.size)
    mask = np.ones(weights.size, np.float32)
    mask[np.argsort(np.abs(weights), axis=None, kind="stable")[:count]] = 0
    return mask.reshape(weights.shape)
