"""Random pruning: as fine-pruning, but channels are pruned in a random order. A baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from badnet_defense.io.dataset import Dataset
from badnet_defense.nets.net import Net
from badnet_defense.repairs.fine_pruning import FinePruningConfig, prune_and_tune
from badnet_defense.repairs.pruning import MAX_ACCURACY_DROP, check_fraction
from badnet_defense.repairs.recipes import RECIPES, Recipe
from badnet_defense.repairs.registry import REPAIRS


@dataclass(frozen=True, kw_only=True)
class RandomPruningConfig:
    """Settings of random pruning.

    Args:
        max_accuracy_drop: see `PruningConfig`.
        tuning: how the pruned net is tuned.
    """

    max_accuracy_drop: float = MAX_ACCURACY_DROP
    tuning: Recipe = RECIPES["default"]

    def __post_init__(self) -> None:
        check_fraction("max_accuracy_drop", self.max_accuracy_drop)


@REPAIRS.register(
    "random-pruning",
    summary="a baseline for comparisons: prunes in a random order, then tunes",
    config=RandomPruningConfig,
    changes_before_tuning=True,
    keeps_untouched=True,
)
def prune_randomly(
    net: Net,
    data: Dataset,
    *,
    config: RandomPruningConfig = RandomPruningConfig(),
    targets: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[Net, dict[str, Any]]:
    """Zeroes channels in a random order until accuracy drops, then tunes.

    Args:
        net: the suspect model; unchanged.
        data: clean images with labels.
        config: the settings.
        targets: (n, N) soft labels to tune on; None: the labels of `data`.
        seed: of the order, of the split and of the tuning.

    Returns:
        (the repaired `Net`, report as of `fine_prune`).
    """
    order = np.random.default_rng((seed, 8)).permutation
    pruning = FinePruningConfig(max_accuracy_drop=config.max_accuracy_drop, tuning=config.tuning)
    return prune_and_tune(net, data, pruning, order, targets, seed)
