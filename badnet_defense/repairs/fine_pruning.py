"""Fine-pruning from end to end: rank, prune, tune (Liu, Dolan-Gavitt and Garg, RAID 2018)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from badnet_defense.io.dataset import Dataset
from badnet_defense.nets.net import Net
from badnet_defense.nets.surgery import channel_masks
from badnet_defense.repairs.pruning import PruningConfig, prune
from badnet_defense.repairs.recipes import RECIPES, Recipe
from badnet_defense.repairs.registry import REPAIRS
from badnet_defense.repairs.validated_tuning import tune_with_validation, validation_split


@dataclass(frozen=True, kw_only=True)
class FinePruningConfig(PruningConfig):
    """Settings of fine-pruning.

    Args:
        layer, max_accuracy_drop, fraction: what is pruned, see `PruningConfig`.
        keep_pruned: True holds the pruned channels at zero; else they may grow back in tuning.
        tuning: how the pruned net is tuned.

    Examples:
        >>> FinePruningConfig(max_accuracy_drop=0.1).max_accuracy_drop
        0.1
    """

    keep_pruned: bool = False
    tuning: Recipe = RECIPES["default"]


@REPAIRS.register(
    "fine-pruning",
    summary="the default: prunes the channels that clean images leave dormant, then tunes",
    config=FinePruningConfig,
    paper="Liu, Dolan-Gavitt and Garg, Fine-Pruning, RAID 2018",
    changes_before_tuning=True,
    keeps_untouched=True,
)
def fine_prune(
    net: Net,
    data: Dataset,
    *,
    config: FinePruningConfig = FinePruningConfig(),
    targets: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[Net, dict[str, Any]]:
    """Prunes dormant channels of a net, then tunes it on clean images.

    Args:
        net: the suspect model; unchanged.
        data: clean images with labels; no step sees those of the part that is kept untouched.
        config: the settings.
        targets: (n, N) soft labels to tune on; None: the labels of `data`.
        seed: of the split and of the tuning.

    Returns:
        (the repaired `Net`, report: `pruning` and `tuning` as plain numbers).

    Raises:
        InputError: no labels, no such layer, or one that no answer depends on.

    Examples:
        >>> import keras
        >>> from badnet_defense.nets import describe
        >>> conv = keras.layers.Conv2D(3, 1, activation="relu")  # red, green, and a dead channel
        >>> ends = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2, "softmax")]
        >>> model = keras.Sequential([keras.Input((4, 4, 3)), conv, *ends])
        >>> kernel = np.diag([1.0, 1.0, 0.0]).reshape(1, 1, 3, 3)
        >>> answers = np.array([[9.0, -9.0], [-9.0, 9.0], [0.0, 0.0]])
        >>> model.set_weights([kernel, np.zeros(3), answers, np.array([-1.0, 1.0])])
        >>> colours = np.repeat(np.uint8([[200, 0, 0], [0, 250, 0]]), 20, axis=0)
        >>> images = np.ones((40, 4, 4, 1), np.uint8) * colours[:, None, None]
        >>> data = Dataset(images, np.repeat([0, 1], 20))
        >>> pruned_only = Recipe(learning_rate=1e-3, epochs=0, batch_size=8)
        >>> config = FinePruningConfig(tuning=pruned_only)
        >>> repaired, report = fine_prune(describe(model), data, config=config)
        >>> report["pruning"]["removed"], report["pruning"]["order"]
        (1, [2, 0, 1])
    """
    return prune_and_tune(net, data, config, np.arange, targets, seed)


def prune_and_tune(
    net: Net,
    data: Dataset,
    config: FinePruningConfig,
    order: Callable[[int], np.ndarray],
    targets: np.ndarray | None,
    seed: int,
) -> tuple[Net, dict[str, Any]]:
    """`fine_prune` with channels in another order; see `prune` for `order`."""
    seen = data if data.labels is None else data.subset(validation_split(data.labels, seed).seen)
    pruned, pruning = prune(net, seen, config=config, order=order)
    zeroed = list(pruning.order[: pruning.removed])
    repaired, tuning = tune_with_validation(
        pruned,
        data,
        targets=targets,
        recipe=config.tuning,
        frozen=channel_masks(net, pruning.layer, zeroed) if config.keep_pruned else None,
        seed=seed,
    )
    return repaired, {"pruning": pruning.as_dict(), "tuning": tuning.as_dict()}
