"""Unlearning found triggers: tuning on pictures that carry them with their right labels.

Wang et al., IEEE S&P 2019, section VI-C: an epoch on clean pictures of which a fifth carry the
inverted trigger. Departures: every trigger that was found at once, shifted and lit like the
pictures, more epochs at a falling learning rate, and the epoch is chosen on held-out pictures, half
of which carry triggers.
"""

from dataclasses import replace

import numpy as np

from badnet_defense.evaluation.stamping import stamp
from badnet_defense.nets.input_range import UNIT
from badnet_defense.repairs.recipes import Recipe
from badnet_defense.repairs.training import fine_tune
from badnet_defense.repairs.validated_tuning import absent_classes, parts_of, tell_length

SHARE = 0.2
"""Of the clean pictures carry each trigger, as copies."""
UNLEARN = Recipe(
    optimizer="amsgrad",
    learning_rate=1e-3,
    epochs=3,
    least_steps=200,
    batch_size=128,
    clip=1.0,
    shift=0.05,
    light=0.1,
)


def unlearn(spec, images, triggers, *, targets=None, recipe=UNLEARN, input_range=UNIT, seed=0):
    """Tunes a net until it answers pictures with the triggers as it does without.

    Args:
        spec: the bad net (`Net`); unchanged.
        images: clean `Dataset`, with labels (or the bad net's own answers as labels).
        triggers: [(label, mask (h, w, 1), pattern (h, w, c))], both in [0, 1].
        targets: (n, classes) soft labels; default: the hard ones.
        recipe: a `Recipe`.
        input_range: the net's range.
        seed: of the split, of the pictures that carry triggers and of the tuning.

    Returns:
        (Net of the tuned net, `Tuning`).
    """
    rng = np.random.default_rng(seed)
    parts = parts_of(images.labels, seed)
    tuning, held_out = parts.tuning, parts.choosing
    carriers = [rng.permutation(tuning)[: max(1, round(SHARE * len(tuning)))] for _ in triggers]
    chosen = np.concatenate([tuning, *carriers])
    tell_length(recipe, len(chosen))
    return fine_tune(
        spec,
        _with_copies(images, tuning, carriers, triggers),
        _with_copies(images, held_out, [held_out] * len(triggers), triggers),
        targets=None if targets is None else targets[chosen],
        recipe=recipe,
        held_back=absent_classes(images.labels, spec.classes),
        input_range=input_range,
        seed=seed,
    )


def _with_copies(images, plain, carriers, triggers):
    """The pictures `plain` as they are, and for each trigger those of `carriers` with it."""
    stamped = [
        np.rint(stamp(images.images[chosen], mask, pattern)).astype(images.images.dtype)
        for chosen, (_, mask, pattern) in zip(carriers, triggers, strict=True)
    ]
    pictures = np.concatenate([images.images[plain], *stamped])
    return replace(
        images, images=pictures, labels=images.labels[np.concatenate([plain, *carriers])]
    )
