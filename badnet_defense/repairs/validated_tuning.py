"""Tuning with a validation split: most clean images tune, of the others half choose the epoch."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from badnet_defense.io.dataset import Dataset
from badnet_defense.io.splits import Parts, three_parts
from badnet_defense.nets.net import Net
from badnet_defense.repairs.pseudo_labels import labels_of
from badnet_defense.repairs.recipes import Recipe
from badnet_defense.repairs.training import Tuning, train

log = logging.getLogger(__name__)

HELD_OUT = 0.15
"""Fraction of each class of the clean images that no weight is tuned on; at least one of each. Half
of them choose the epoch, and nothing of the repair depends on the others."""


def validation_split(labels: np.ndarray, seed: int) -> Parts:
    """The `Parts` that every repair divides its clean images into.

    Args:
        labels: (n,) class numbers.
        seed: of the repair.

    Examples:
        >>> parts = validation_split(np.arange(400) % 4, seed=0)
        >>> len(parts.tuning), len(parts.choosing), len(parts.untouched)
        (340, 30, 30)
    """
    return three_parts(labels, HELD_OUT, seed=seed)


def tune_with_validation(
    net: Net,
    data: Dataset,
    *,
    recipe: Recipe,
    targets: np.ndarray | None = None,
    seed: int = 0,
    **hooks: Any,
) -> tuple[Net, Tuning]:
    """Tunes a net on all but `HELD_OUT` of the images; half of those choose the epoch.

    Args:
        net: the net; unchanged.
        data: clean images with labels.
        recipe: how to tune.
        targets: (n, N) soft labels; None: the labels of `data`.
        seed: of the split and of the tuning.
        hooks: `frozen`, `objective` and `after_step` as `train` takes them.

    Returns:
        (the tuned `Net`, `Tuning`).
    """
    labels = labels_of(data)
    parts = validation_split(labels, seed)
    log_length(recipe, len(parts.tuning))
    return train(
        net,
        data.subset(parts.tuning),
        data.subset(parts.choosing),
        targets=None if targets is None else targets[parts.tuning],
        recipe=recipe,
        held_back=absent_classes(labels, net.classes),
        seed=seed,
        **hooks,
    )


def absent_classes(labels: np.ndarray, classes: int) -> np.ndarray:
    """Numbers of the classes 0..`classes` - 1 that no label names.

    Examples:
        >>> absent_classes(np.array([2, 0, 2]), 4).tolist()
        [1, 3]
    """
    return np.setdiff1d(np.arange(classes), labels)


def log_length(recipe: Recipe, count: int) -> None:
    """Logs how long tuning on `count` images takes where that is not the recipe's epochs."""
    epochs, steps = recipe.epochs_for(count)
    if epochs > recipe.epochs:
        log.info(
            "%d images make %d steps an epoch: tuning goes on for %d epochs, not %d, until there "
            "are at least %d steps",
            *(count, steps, epochs, recipe.epochs, recipe.least_steps),
        )
