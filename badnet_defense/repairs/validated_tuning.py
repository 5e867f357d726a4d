"""Tuning on most of the clean pictures; of the others a half chooses the epoch."""

import logging

import numpy as np

from badnet_defense.io.splits import three_parts
from badnet_defense.repairs.recipes import RECIPES
from badnet_defense.repairs.training import fine_tune

log = logging.getLogger(__name__)

HELD_OUT = 0.15
"""Share of each class of the clean pictures that no weight is tuned on; at least one of each. Half
of them choose the epoch, and nothing of the repair depends on the others."""
SPLIT = 3
"""How many parts the clean pictures have, as a repair notes it. Repairs of version 0.1, which note
nothing of it, chose the epoch by all that they held out."""


def parts_of(labels, seed):
    """The `Parts` that every repair divides its clean pictures into.

    Args:
        labels: (n,) class numbers.
        seed: of the repair.
    """
    return three_parts(labels, HELD_OUT, seed=seed)


def tune_held_out(spec, images, *, targets=None, recipe=RECIPES["default"], seed=0, **settings):
    """Tunes a net on all but `HELD_OUT` of the pictures, and keeps the epoch best on half of those.

    Args:
        spec: the net (`Net`); unchanged.
        images: clean `Dataset`, with labels.
        targets: (n, classes) soft labels; default: the hard ones.
        recipe: a `Recipe`.
        seed: of the split and of the tuning.
        settings: `frozen`, `objective`, `after_step` and `input_range` as `fine_tune` takes them.

    Returns:
        (`Net` of the tuned net, `Tuning`).
    """
    parts = parts_of(images.labels, seed)
    tell_length(recipe, len(parts.tuning))
    return fine_tune(
        spec,
        images.subset(parts.tuning),
        images.subset(parts.choosing),
        targets=None if targets is None else targets[parts.tuning],
        recipe=recipe,
        held_back=absent_classes(images.labels, spec.classes),
        seed=seed,
        **settings,
    )


def absent_classes(labels, classes):
    """Numbers of the classes, out of so many, that no label names."""
    return np.setdiff1d(np.arange(classes), labels)


def tell_length(recipe, count):
    """Says how long tuning on `count` pictures takes where that is not the recipe's epochs."""
    epochs, steps = recipe.epochs_for(count)
    if epochs > recipe.epochs:
        log.info(
            "%d pictures make %d steps an epoch: tuning goes on for %d epochs, not %d, until there "
            "are at least %d steps",
            *(count, steps, epochs, recipe.epochs, recipe.least_steps),
        )
