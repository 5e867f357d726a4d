"""Fine-pruning's first half: dormant channels are zeroed until clean accuracy drops too far.

Liu, Dolan-Gavitt and Garg, "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural
Networks", RAID 2018. A backdoor lives in channels that clean images hardly use.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from badnet_defense.errors import InputError
from badnet_defense.io.dataset import Dataset
from badnet_defense.nets.graph import early_layer_warning, layer_to_prune
from badnet_defense.nets.net import Net
from badnet_defense.nets.surgery import zero_channels
from badnet_defense.repairs.front_half import FrontHalf
from badnet_defense.repairs.pruning_curve import pruning_curve
from badnet_defense.repairs.pseudo_labels import labels_of

log = logging.getLogger(__name__)

MAX_ACCURACY_DROP = 0.04
MIN_EFFECT = 0.02
"""A layer whose channels can all be pruned for less of the clean accuracy decides no answers."""


def check_fraction(name: str, value: float | None) -> None:
    """Refuses a setting outside [0, 1]; None passes.

    Raises:
        InputError: it is none.
    """
    if value is not None and not 0 <= value <= 1:
        raise InputError(f"{name} {value}: expected a number between 0 and 1, such as 0.1.")


@dataclass(frozen=True, kw_only=True)
class PruningConfig:
    """What is pruned.

    Args:
        layer: name of a convolution; None: the last one on every path to the output.
        max_accuracy_drop: channels are zeroed, most dormant first, until clean accuracy lies more
            than this below the suspect model's; the last point before that is kept. In [0, 1].
        fraction: fraction of the channels to zero instead, in [0, 1], whatever it costs; None: as
            many as `max_accuracy_drop` allows. One channel always stays.

    Raises:
        InputError: a fraction outside [0, 1].
    """

    layer: str | None = None
    max_accuracy_drop: float = MAX_ACCURACY_DROP
    fraction: float | None = None

    def __post_init__(self) -> None:
        check_fraction("max_accuracy_drop", self.max_accuracy_drop)
        check_fraction("fraction", self.fraction)


@dataclass(frozen=True)
class Pruning:
    """What was pruned and what it cost.

    Attributes:
        layer: name of the pruned layer.
        channels: how many it has.
        removed: how many were zeroed.
        order: all channel numbers in the order of pruning: most dormant first by default; the
            first `removed` were zeroed.
        mean_activation: of each channel of `order`, over clean images and positions.
        max_accuracy_drop: allowed drop of clean accuracy, in [0, 1]; None with `fraction`.
        fraction: fixed fraction of channels, in [0, 1]; None with `max_accuracy_drop`.
        curve: clean accuracy after 0, 1, .. all channels were zeroed, in [0, 1].
        remarks: sentences on what is unusual about the layer or the number of channels.
    """

    layer: str
    channels: int
    removed: int
    order: tuple[int, ...]
    mean_activation: tuple[float, ...]
    max_accuracy_drop: float | None
    fraction: float | None
    curve: tuple[float, ...]
    remarks: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}


def prune(
    net: Net,
    data: Dataset,
    *,
    config: PruningConfig = PruningConfig(),
    order: Callable[[int], np.ndarray] = np.arange,
) -> tuple[Net, Pruning]:
    """Zeroes the most dormant channels of a layer.

    Args:
        net: the suspect model; unchanged.
        data: clean images with labels.
        config: what is pruned.
        order: takes the number of channels and gives their order among those by dormancy; default:
            the most dormant first.

    Returns:
        (the pruned `Net`, `Pruning`).

    Raises:
        InputError: unlabelled images, no such layer, or one that decides no answers.
    """
    labels = labels_of(data)
    layer = layer_to_prune(net, config.layer)
    remarks = [early_layer_warning(net, layer)] if config.layer is None else []
    front = FrontHalf(net, layer, data.images)
    dormant = np.argsort(front.mean_activation, kind="stable")
    channels = dormant[order(len(dormant))]
    curve = pruning_curve(net, layer, channels, front, labels)
    _check_effect(layer, curve)
    removed = kept_point(curve, config.max_accuracy_drop)
    if config.fraction is not None:
        removed = round(config.fraction * len(channels))
    if removed == len(channels):
        removed -= 1
        remarks.append(
            f"one of the {len(channels)} channels of {layer} was kept: without any, the "
            "net would answer every image alike"
        )
    remarks = [remark for remark in remarks if remark]
    for remark in remarks:
        log.warning("%s", remark)
    report = Pruning(
        layer=layer,
        channels=len(channels),
        removed=removed,
        order=tuple(channels.tolist()),
        mean_activation=tuple(front.mean_activation[channels].tolist()),
        max_accuracy_drop=config.max_accuracy_drop if config.fraction is None else None,
        fraction=config.fraction,
        curve=tuple(curve.tolist()),
        remarks=tuple(filter(None, remarks)),
    )
    return zero_channels(net, layer, channels[:removed]), report


def _check_effect(layer: str, curve: np.ndarray) -> None:
    """Refuses a layer without which the net answers as before: the backdoor takes another path."""
    lost = curve[0] - curve[-1]
    if lost < MIN_EFFECT:
        raise InputError(
            f"zeroing all {len(curve) - 1} channels of {layer} costs {100 * max(lost, 0):.1f} "
            "points of clean accuracy, so the net's answers do not depend on it, and pruning it "
            "repairs nothing; name another convolution as the layer, or take another method."
        )


def kept_point(curve: np.ndarray | Sequence[float], max_accuracy_drop: float) -> int:
    """How many channels to prune: the last point before accuracy first falls too far.

    Args:
        curve: accuracies after 0, 1, .. channels.
        max_accuracy_drop: in [0, 1].

    Examples:
        >>> kept_point([0.9, 0.9, 0.88, 0.7, 0.1], max_accuracy_drop=0.1)
        2
    """
    # A share of images divided and subtracted again must not decide by its last bit.
    fallen = np.flatnonzero(curve[0] - np.asarray(curve) > max_accuracy_drop + 1e-9)
    return int(fallen[0]) - 1 if len(fallen) else len(curve) - 1
