"""Fine-pruning from end to end: rank, prune, tune (Liu, Dolan-Gavitt and Garg, RAID 2018)."""

from dataclasses import dataclass

from badnet_defense.data.input_range import UNIT
from badnet_defense.data.splits import split_within_classes
from badnet_defense.nets.build import build
from badnet_defense.nets.spec import NetSpec
from badnet_defense.repair.channels import channel_masks
from badnet_defense.repair.fine_tuning import Tuning, fine_tune
from badnet_defense.repair.pruning import MAX_ACCURACY_DROP, Pruning, prune
from badnet_defense.repair.pseudo_labels import pseudo_labelled
from badnet_defense.repair.recipes import RECIPES

HELD_OUT = 0.15
"""Share of each class of the clean pictures that only chooses the epoch; at least one of each."""


@dataclass(frozen=True)
class FinePruned:
    """A repair with its steps.

    Attributes:
        pruned: `NetSpec` after pruning.
        repaired: `NetSpec` after tuning.
        pruning: `Pruning` report.
        tuning: `Tuning` report.
        pseudo_labels: True where the bad net's own answers stood in for labels.
    """

    pruned: NetSpec
    repaired: NetSpec
    pruning: Pruning
    tuning: Tuning
    pseudo_labels: bool


def fine_prune(
    spec,
    images,
    *,
    layer=None,
    max_accuracy_drop=MAX_ACCURACY_DROP,
    fraction=None,
    recipe=RECIPES["default"],
    keep_pruned=False,
    pseudo_labels=False,
    input_range=UNIT,
    seed=0,
):
    """Repairs a net with clean pictures.

    Args:
        spec: the bad net (`NetSpec`); unchanged.
        images: clean `LabelledImages`; labels are needed unless `pseudo_labels`.
        layer, max_accuracy_drop, fraction: see `prune`.
        recipe: how to tune, a `Recipe`.
        keep_pruned: True holds the zeroed channels at zero; else they may grow back.
        pseudo_labels: True takes the bad net's own soft answers as targets, and its classes as
            labels; the pictures' labels are ignored.
        input_range: the net's range.
        seed: of the split and of the tuning.

    Returns:
        `FinePruned`.

    Raises:
        InputError: as `prune`.
    """
    targets = None
    if pseudo_labels:
        images, targets = pseudo_labelled(build(spec), images, input_range=input_range)
    pruned, pruning = prune(
        spec,
        images,
        layer=layer,
        max_accuracy_drop=max_accuracy_drop,
        fraction=fraction,
        input_range=input_range,
    )
    zeroed = list(pruning.order[: pruning.removed])
    tuning_part, held_out = split_within_classes(images.labels, HELD_OUT, seed=seed)
    repaired, tuning = fine_tune(
        pruned,
        images.subset(tuning_part),
        images.subset(held_out),
        targets=None if targets is None else targets[tuning_part],
        recipe=recipe,
        frozen=channel_masks(spec, pruning.layer, zeroed) if keep_pruned else None,
        input_range=input_range,
        seed=seed,
    )
    return FinePruned(pruned, repaired, pruning, tuning, pseudo_labels)
