"""Unlearning found triggers: tuning on images that carry them with their right labels.

Wang et al., IEEE S&P 2019, section VI-C: an epoch on clean images of which a fifth carry the
inverted trigger. Departures: all found triggers at once, with augmentation, more epochs at a
falling learning rate, and the epoch is chosen on validation images, half of which carry triggers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from badnet_defense.evaluation.stamping import stamp
from badnet_defense.io.dataset import Dataset
from badnet_defense.nets.net import Net
from badnet_defense.repairs.pseudo_labels import labels_of
from badnet_defense.repairs.recipes import Recipe
from badnet_defense.repairs.registry import REPAIRS
from badnet_defense.repairs.scanned_triggers import Trigger, triggers_of
from badnet_defense.repairs.training import train
from badnet_defense.repairs.validated_tuning import (
    absent_classes,
    log_length,
    validation_split,
)

FRACTION = 0.2
"""Fraction of the clean images that carry each trigger, as copies."""
UNLEARN = Recipe(
    optimizer="amsgrad",
    learning_rate=1e-3,
    epochs=3,
    least_steps=200,
    batch_size=128,
    clip=1.0,
    shift=0.05,
    light=0.1,
)


@dataclass(frozen=True, kw_only=True)
class ScanUnlearningConfig:
    """Settings of unlearning.

    Args:
        tuning: how the net is tuned on images with and without the triggers.
    """

    tuning: Recipe = UNLEARN


@REPAIRS.register(
    "scan-unlearning",
    summary="where a scan flags labels: tunes on images that carry the triggers it found",
    config=ScanUnlearningConfig,
    paper="Wang et al., Neural Cleanse, IEEE S&P 2019",
    uses_triggers=True,
    keeps_untouched=True,
)
def unlearn(
    net: Net,
    data: Dataset,
    *,
    config: ScanUnlearningConfig = ScanUnlearningConfig(),
    targets: np.ndarray | None = None,
    seed: int = 0,
    triggers: Sequence[Trigger] | None = None,
) -> tuple[Net, dict[str, Any]]:
    """Tunes a net until it answers images with the triggers as it does without.

    Args:
        net: the suspect model; unchanged.
        data: clean images with labels.
        config: the settings.
        targets: (n, N) soft labels to tune on; None: the labels of `data`.
        seed: of the scan, of the split, of the images that carry triggers and of the tuning.
        triggers: [(label, mask (h, w, 1), pattern (h, w, c))] of a finished scan, both in [0, 1];
            None: the net is scanned now.

    Returns:
        (the repaired `Net`, report: `labels` of the triggers and `tuning` as plain numbers).

    Raises:
        InputError: no label was flagged.
        CannotJudgeError: the scan says nothing about the net.
    """
    triggers = triggers_of(net, data, triggers, seed)
    rng = np.random.default_rng(seed)
    labels = labels_of(data)
    parts = validation_split(labels, seed)
    tuning, validation = parts.tuning, parts.choosing
    carriers = [rng.permutation(tuning)[: max(1, round(FRACTION * len(tuning)))] for _ in triggers]
    chosen = np.concatenate([tuning, *carriers])
    log_length(config.tuning, len(chosen))
    repaired, report = train(
        net,
        _with_copies(data, tuning, carriers, triggers),
        _with_copies(data, validation, [validation] * len(triggers), triggers),
        targets=None if targets is None else targets[chosen],
        recipe=config.tuning,
        held_back=absent_classes(labels, net.classes),
        seed=seed,
    )
    flagged = [int(label) for label, *_ in triggers]
    return repaired, {"labels": flagged, "tuning": report.as_dict()}


def _with_copies(
    data: Dataset,
    plain: np.ndarray,
    carriers: Sequence[np.ndarray],
    triggers: Sequence[Trigger],
) -> Dataset:
    """The images `plain` as they are, and for each trigger those of `carriers` with it."""
    stamped = [
        np.rint(stamp(data.images[chosen], mask, pattern)).astype(data.images.dtype)
        for chosen, (_, mask, pattern) in zip(carriers, triggers, strict=True)
    ]
    images = np.concatenate([data.images[plain], *stamped])
    labels = labels_of(data)[np.concatenate([plain, *carriers])]
    return replace(data, images=images, labels=labels)
