"""Random pruning: as fine-pruning, but channels go in a random order. A published base line."""

import numpy as np

from badnet_defense.data.input_range import UNIT
from badnet_defense.repair.held_out_tuning import tune_held_out
from badnet_defense.repair.pruning import MAX_ACCURACY_DROP, prune
from badnet_defense.repair.recipes import RECIPES


def prune_randomly(
    spec,
    images,
    *,
    targets=None,
    max_accuracy_drop=MAX_ACCURACY_DROP,
    recipe=RECIPES["default"],
    input_range=UNIT,
    seed=0,
):
    """Zeroes channels in a random order until accuracy drops, then tunes.

    Args:
        spec: the bad net (`NetSpec`); unchanged.
        images: clean `LabelledImages`, with labels.
        targets: (n, classes) soft labels; default: the hard ones.
        max_accuracy_drop: see `prune`.
        recipe: a `Recipe`.
        input_range: the net's range.
        seed: of the order, of the split and of the tuning.

    Returns:
        (`NetSpec` of the repaired net, report as plain numbers).
    """
    pruned, pruning = prune(
        spec,
        images,
        max_accuracy_drop=max_accuracy_drop,
        order=np.random.default_rng((seed, 8)).permutation,
        input_range=input_range,
    )
    tuned, tuning = tune_held_out(
        pruned, images, targets=targets, recipe=recipe, input_range=input_range, seed=seed
    )
    return tuned, {"pruning": pruning.as_dict(), "tuning": tuning.as_dict()}
