"""FT-SAM: fine-tuning that looks for flat places (Zhu et al., ICCV 2023).

A backdoor's weights are large and its loss is flat around them, so plain tuning leaves them where
they are; a step uphill in proportion to the weights' size moves them out. Departure: this package's
augmentation, and the epoch is chosen on a validation split.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from badnet_defense.io.dataset import Dataset
from badnet_defense.nets.net import Net
from badnet_defense.repairs.fine_tuning import FineTuningConfig, fine_tune
from badnet_defense.repairs.recipes import RECIPES, Recipe
from badnet_defense.repairs.registry import REPAIRS

FT_SAM = replace(RECIPES["default"], optimizer="sgd", learning_rate=0.05, sharpness=0.5)


@dataclass(frozen=True, kw_only=True)
class FTSAMConfig:
    """Settings of FT-SAM.

    Args:
        tuning: how the net is tuned; its `sharpness` is the radius of the step uphill.
    """

    tuning: Recipe = FT_SAM


@REPAIRS.register(
    "ft-sam",
    summary="where plain tuning leaves the backdoor: tunes with sharpness-aware steps",
    config=FTSAMConfig,
    paper="Zhu et al., Enhancing Fine-Tuning Based Backdoor Defense with SAM, ICCV 2023",
    keeps_untouched=True,
)
def ft_sam(
    net: Net,
    data: Dataset,
    *,
    config: FTSAMConfig = FTSAMConfig(),
    targets: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[Net, dict[str, Any]]:
    """Tunes a net with sharpness-aware steps; arguments and result as of `fine_tune`."""
    tuning = FineTuningConfig(tuning=config.tuning)
    return fine_tune(net, data, config=tuning, targets=targets, seed=seed)
