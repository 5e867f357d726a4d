"""Fine-tuning alone: the baseline of every repair (Liu, Dolan-Gavitt and Garg, RAID 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from badnet_defense.io.dataset import Dataset
from badnet_defense.nets.net import Net
from badnet_defense.repairs.recipes import RECIPES, Recipe
from badnet_defense.repairs.registry import REPAIRS
from badnet_defense.repairs.validated_tuning import tune_with_validation


@dataclass(frozen=True, kw_only=True)
class FineTuningConfig:
    """Settings of fine-tuning.

    Args:
        tuning: how the net is tuned.
    """

    tuning: Recipe = RECIPES["default"]


@REPAIRS.register(
    "fine-tuning",
    summary="the baseline: tunes on clean images and prunes nothing; for nets without convolutions",
    config=FineTuningConfig,
    paper="Liu, Dolan-Gavitt and Garg, Fine-Pruning, RAID 2018",
    keeps_untouched=True,
)
def fine_tune(
    net: Net,
    data: Dataset,
    *,
    config: FineTuningConfig = FineTuningConfig(),
    targets: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[Net, dict[str, Any]]:
    """Tunes a net on clean images; nothing is pruned.

    Args:
        net: the suspect model; unchanged.
        data: clean images with labels.
        config: the settings.
        targets: (n, N) soft labels to tune on; None: the labels of `data`.
        seed: of the split and of the tuning.

    Returns:
        (the repaired `Net`, report: `tuning` as plain numbers).
    """
    tuned, tuning = tune_with_validation(
        net, data, targets=targets, recipe=config.tuning, seed=seed
    )
    return tuned, {"tuning": tuning.as_dict()}
