"""Random pruning: as fine-pruning, but channels go in a random order. A published base line."""

import numpy as np

from badnet_defense.repairs.fine_pruning import fine_prune
from badnet_defense.repairs.pruning import MAX_ACCURACY_DROP
from badnet_defense.repairs.recipes import RECIPES


def prune_randomly(
    spec,
    images,
    *,
    max_accuracy_drop=MAX_ACCURACY_DROP,
    recipe=RECIPES["default"],
    seed=0,
    **settings,
):
    """Zeroes channels in a random order until accuracy drops, then tunes.

    Args:
        spec, images, max_accuracy_drop, recipe: as for `fine_prune`.
        seed: of the order, of the split and of the tuning.
        settings: `targets` and `input_range` as for `fine_prune`.

    Returns:
        (`Net` of the repaired net, report as plain numbers).
    """
    return fine_prune(
        spec,
        images,
        max_accuracy_drop=max_accuracy_drop,
        order=np.random.default_rng((seed, 8)).permutation,
        recipe=recipe,
        seed=seed,
        **settings,
    )
