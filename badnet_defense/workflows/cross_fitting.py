"""Makes a repair again on a part of the clean pictures, by what its file notes."""

import logging

import numpy as np

from badnet_defense.detectors.registry import FOLDS
from badnet_defense.errors import InputError
from badnet_defense.guards.pairing import noted_json, noted_seed, noted_steps
from badnet_defense.nets.graph import CONVOLUTIONS
from badnet_defense.nets.surgery import channel_count, channel_masks, zero_channels
from badnet_defense.repairs.recipes import Recipe
from badnet_defense.repairs.registry import REPAIRS, uses_triggers
from badnet_defense.repairs.validated_tuning import HELD_OUT, tune_with_validation

log = logging.getLogger(__name__)


def like_repairs(pair, clean, *, input_range, seed=0):
    """A repair made again `FOLDS` times, each on all but a part of the clean pictures.

    Args:
        pair, clean, input_range, seed: as for `fitting.fit_detector`.

    Returns:
        [(positions of the part, positions of the others, `Net`)]; None where the repair does
        not note how it was made, or learnt from none of these pictures.
    """
    bad, repaired = pair
    again = _repeated(bad, repaired, input_range) if len(clean.tuned) else None
    if again is None:
        return None
    log.info("few unseen pictures: the repair is made %d times to set the threshold", FOLDS)
    order = np.random.default_rng((seed, 7)).permutation(len(clean.data))
    fold_repairs = []
    for fold in np.array_split(order, FOLDS):
        others = np.setdiff1d(order, fold)
        targets = None if clean.targets is None else clean.targets[others]
        fold_repairs.append((fold, others, again(clean.data.subset(others), targets)))
    return fold_repairs


def unseen_share(method):
    """Share of the clean images that may set a threshold beside a repair by them, in (0, 1].

    A repair that a scan belongs to is not made again for cross-fitting, so that only the images
    that it left untouched may.
    """
    return HELD_OUT / 2 if uses_triggers(method) else 1.0


def _repeated(bad, repaired, input_range):
    """A function, (images, targets) -> `Net`, that does what a repaired net notes of itself.

    What was pruned is pruned again, not chosen again; None where the notes do not tell enough, or a
    scan belongs to it.
    """
    steps = noted_steps(repaired)
    if steps is not None:
        check_channels(bad, steps.layer, steps.zeroed, repaired.attributes["file"])
        pruned = zero_channels(bad, steps.layer, steps.zeroed)
        settings = {
            "recipe": _recipe(steps.recipe),
            "frozen": channel_masks(bad, steps.layer, steps.zeroed) if steps.frozen else None,
            "seed": steps.seed,
        }
        pruned = pruned.with_range(input_range)
        return lambda images, targets: tune_with_validation(
            pruned, images, targets=targets, **settings
        )[0]
    notes = {} if repaired is None else repaired.attributes
    name = notes.get("method")
    if name not in REPAIRS or uses_triggers(name):
        return None
    settings = {}
    recipe, drop = noted_json(repaired, "recipe"), notes.get("max_accuracy_drop")
    if recipe is not None:
        settings["tuning"] = _recipe(recipe)
    if isinstance(drop, float):
        settings["max_accuracy_drop"] = drop
    how = {"config": REPAIRS[name].make_config(settings), "seed": noted_seed(repaired)}
    bad, method = bad.with_range(input_range), REPAIRS[name].run
    return lambda images, targets: method(bad, images, targets=targets, **how)[0]


def check_channels(bad, layer, zeroed, file):
    """Refuses noted channels that the bad net (`Net`) does not have."""
    right = layer in bad.layers and bad.layers[layer].kind in CONVOLUTIONS
    if not right or max(zeroed, default=0) >= channel_count(bad, layer):
        raise InputError(f"{file}: it notes channels that the net does not have; make it again.")


def _recipe(noted):
    try:
        return Recipe(**noted)
    except TypeError:
        raise InputError(
            f"the repair was tuned with {', '.join(map(str, noted))[:80]}, which this version does "
            "not know; make it again."
        ) from None
