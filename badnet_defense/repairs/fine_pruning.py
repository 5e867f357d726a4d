"""Fine-pruning from end to end: rank, prune, tune (Liu, Dolan-Gavitt and Garg, RAID 2018)."""

import numpy as np

from badnet_defense.nets.input_range import UNIT
from badnet_defense.nets.surgery import channel_masks
from badnet_defense.repairs.pruning import MAX_ACCURACY_DROP, prune
from badnet_defense.repairs.recipes import RECIPES
from badnet_defense.repairs.validated_tuning import parts_of, tune_held_out


def fine_prune(
    spec,
    images,
    *,
    targets=None,
    layer=None,
    max_accuracy_drop=MAX_ACCURACY_DROP,
    fraction=None,
    order=np.arange,
    recipe=RECIPES["default"],
    keep_pruned=False,
    input_range=UNIT,
    seed=0,
):
    """Repairs a net with clean pictures.

    Args:
        spec: the bad net (`Net`); unchanged.
        images: clean `Dataset`, with labels.
        targets: (n, classes) soft labels; default: the hard ones.
        layer, max_accuracy_drop, fraction, order: see `prune`; it sees no picture of the part that
            is kept untouched.
        recipe: how to tune, a `Recipe`.
        keep_pruned: True holds the zeroed channels at zero; else they may grow back.
        input_range: the net's range.
        seed: of the split and of the tuning.

    Returns:
        (`Net` of the repaired net, report as plain numbers: `pruning` and `tuning`).

    Raises:
        InputError: as `prune`.
    """
    pruned, pruning = prune(
        spec,
        images if images.labels is None else images.subset(parts_of(images.labels, seed).seen),
        layer=layer,
        max_accuracy_drop=max_accuracy_drop,
        fraction=fraction,
        order=order,
        input_range=input_range,
    )
    zeroed = list(pruning.order[: pruning.removed])
    repaired, tuning = tune_held_out(
        pruned,
        images,
        targets=targets,
        recipe=recipe,
        frozen=channel_masks(spec, pruning.layer, zeroed) if keep_pruned else None,
        input_range=input_range,
        seed=seed,
    )
    return repaired, {"pruning": pruning.as_dict(), "tuning": tuning.as_dict()}
