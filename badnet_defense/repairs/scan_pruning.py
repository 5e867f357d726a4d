"""Pruning the channels that found triggers activate (Wang et al., IEEE S&P 2019, section VI-B).

Fine-pruning ranks channels by how dormant clean images leave them; here they are ranked by how
strongly a found trigger activates them. The paper prunes the second to last layer; here it is the
layer that fine-pruning takes, where several triggers' channels are still apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from badnet_defense.evaluation.stamping import stamp
from badnet_defense.io.dataset import Dataset
from badnet_defense.nets.graph import layer_to_prune
from badnet_defense.nets.net import Net
from badnet_defense.nets.surgery import zero_channels
from badnet_defense.repairs.front_half import FrontHalf
from badnet_defense.repairs.pruning import MAX_ACCURACY_DROP, check_fraction, kept_point
from badnet_defense.repairs.pruning_curve import pruning_curve
from badnet_defense.repairs.pseudo_labels import labels_of
from badnet_defense.repairs.registry import REPAIRS
from badnet_defense.repairs.scanned_triggers import Trigger, triggers_of
from badnet_defense.repairs.validated_tuning import validation_split

REMOVED_BELOW = 0.05
"""A trigger that sends no more of the clean images than this to its label is removed."""
MAX_STAMPED = 1000
"""At most this many images carry a trigger while the channels are ranked and pruned."""


@dataclass(frozen=True, kw_only=True)
class ScanPruningConfig:
    """Settings of pruning by triggers.

    Args:
        layer: a convolution; None: the last one on every path to the output.
        max_accuracy_drop: largest drop of clean accuracy that pruning may cost, in [0, 1].
    """

    layer: str | None = None
    max_accuracy_drop: float = MAX_ACCURACY_DROP

    def __post_init__(self) -> None:
        check_fraction("max_accuracy_drop", self.max_accuracy_drop)


@dataclass(frozen=True)
class TriggerPruning:
    """What was pruned, and what became of accuracy and triggers.

    Attributes:
        layer: name of the pruned layer.
        channels: how many it has.
        removed: how many were zeroed.
        order: channel numbers, those that the triggers activate most first.
        curve: clean accuracy after 0, 1, .. channels, in [0, 1].
        success: {label: ASR of its inverted trigger after 0, 1, .. channels}.
    """

    layer: str
    channels: int
    removed: int
    order: tuple[int, ...]
    curve: tuple[float, ...]
    success: dict[int, tuple[float, ...]]


@REPAIRS.register(
    "scan-pruning",
    summary="where a scan flags labels: prunes the channels that its triggers activate",
    config=ScanPruningConfig,
    paper="Wang et al., Neural Cleanse, IEEE S&P 2019",
    uses_triggers=True,
    keeps_untouched=True,
)
def scan_prune(
    net: Net,
    data: Dataset,
    *,
    config: ScanPruningConfig = ScanPruningConfig(),
    targets: np.ndarray | None = None,
    seed: int = 0,
    triggers: Sequence[Trigger] | None = None,
) -> tuple[Net, dict[str, Any]]:
    """Prunes the channels that the triggers of a scan activate; nothing is tuned.

    Args:
        net: the suspect model; unchanged.
        data: clean images with labels.
        config: the settings.
        targets: unused: nothing is tuned.
        seed: of the scan and of the split.
        triggers: [(label, mask (h, w, 1), pattern (h, w, c))] of a finished scan, both in [0, 1];
            None: the net is scanned now.

    Returns:
        (the repaired `Net`, report: `labels` of the triggers and `trigger_pruning` as plain
        numbers, see `TriggerPruning`).

    Raises:
        InputError: no such layer, or no label was flagged.
        CannotJudgeError: the scan says nothing about the net.
    """
    triggers = triggers_of(net, data, triggers, seed)
    seen = data.subset(validation_split(labels_of(data), seed).seen)
    repaired, report = prune_by_triggers(net, seen, triggers, config=config)
    labels = [int(label) for label, *_ in triggers]
    return repaired, {"labels": labels, "trigger_pruning": asdict(report)}


def prune_by_triggers(
    net: Net,
    data: Dataset,
    triggers: Sequence[Trigger],
    *,
    config: ScanPruningConfig = ScanPruningConfig(),
) -> tuple[Net, TriggerPruning]:
    """Zeroes channels until the triggers are removed or clean accuracy has dropped too far.

    Args:
        net: the suspect model; unchanged.
        data: clean images with labels, all of which are used.
        triggers: [(label, mask (h, w, 1), pattern (h, w, c))], both in [0, 1].
        config: the settings.

    Returns:
        (the pruned `Net`, `TriggerPruning`).

    Raises:
        InputError: no such layer.
    """
    layer = layer_to_prune(net, config.layer)
    clean = FrontHalf(net, layer, data.images)
    stamped = {
        label: FrontHalf(net, layer, _stamped(data, label, mask, pattern))
        for label, mask, pattern in triggers
    }
    order = _order(clean.mean_activation, [front.mean_activation for front in stamped.values()])
    curve = pruning_curve(net, layer, order, clean, labels_of(data))
    success = {
        label: pruning_curve(net, layer, order, front, np.full(len(front.images), label))
        for label, front in stamped.items()
    }
    highest = np.max(list(success.values()), axis=0)
    below = np.flatnonzero(highest <= REMOVED_BELOW)
    removed = min(
        kept_point(curve, config.max_accuracy_drop), below[0] if len(below) else len(order)
    )
    removed = min(removed, len(order) - 1)  # without any channel all images are answered alike
    report = TriggerPruning(
        layer=layer,
        channels=len(order),
        removed=int(removed),
        order=tuple(order.tolist()),
        curve=tuple(curve.tolist()),
        success={label: tuple(rates.tolist()) for label, rates in success.items()},
    )
    return zero_channels(net, layer, order[:removed]), report


def _stamped(data: Dataset, label: int, mask: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    """Images of other classes that carry the trigger."""
    others = np.flatnonzero(labels_of(data) != label)
    chosen = others[:: -(-len(others) // MAX_STAMPED)]
    return stamp(data.images[chosen], mask, pattern)


def _order(clean: np.ndarray, stamped: Sequence[np.ndarray]) -> np.ndarray:
    """Channels by how much a trigger activates them, as a fraction of its own largest gain."""
    gains = [(mean - clean) / max(np.max(mean - clean), 1e-12) for mean in stamped]
    return np.argsort(-np.max(gains, axis=0), kind="stable")
