"""Fine-tuning alone: the base line of every repair (Liu, Dolan-Gavitt and Garg, RAID 2018)."""

from badnet_defense.repair.held_out_tuning import tune_held_out
from badnet_defense.repair.recipes import RECIPES


def tune_alone(spec, images, *, recipe=RECIPES["default"], **settings):
    """Tunes a net on clean pictures; nothing is pruned.

    Args:
        spec: the bad net (`NetSpec`); unchanged.
        images: clean `LabelledImages`, with labels.
        recipe: a `Recipe`.
        settings: `targets`, `input_range` and `seed` as `fine_tune` takes them.

    Returns:
        (`NetSpec` of the tuned net, report as plain numbers).
    """
    tuned, tuning = tune_held_out(spec, images, recipe=recipe, **settings)
    return tuned, {"tuning": tuning.as_dict()}
