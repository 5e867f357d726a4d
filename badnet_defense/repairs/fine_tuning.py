"""Fine-tuning alone: the base line of every repair (Liu, Dolan-Gavitt and Garg, RAID 2018)."""

from badnet_defense.repairs.recipes import RECIPES
from badnet_defense.repairs.validated_tuning import tune_held_out


def tune_alone(spec, images, *, recipe=RECIPES["default"], **settings):
    """Tunes a net on clean pictures; nothing is pruned.

    Args:
        spec: the bad net (`Net`); unchanged.
        images: clean `Dataset`, with labels.
        recipe: a `Recipe`.
        settings: `targets`, `input_range` and `seed` as `fine_tune` takes them.

    Returns:
        (`Net` of the tuned net, report as plain numbers).
    """
    tuned, tuning = tune_held_out(spec, images, recipe=recipe, **settings)
    return tuned, {"tuning": tuning.as_dict()}
