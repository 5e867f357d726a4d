"""Fine-pruning's first half: dormant channels are zeroed until clean accuracy drops too far.

Liu, Dolan-Gavitt and Garg, "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural
Networks", RAID 2018. A backdoor lives in channels that clean pictures hardly use.
"""

import logging
from dataclasses import asdict, dataclass

import numpy as np

from badnet_defense.errors import InputError
from badnet_defense.nets.graph import early_layer, layer_to_prune
from badnet_defense.nets.input_range import UNIT
from badnet_defense.nets.surgery import zero_channels
from badnet_defense.repairs.front_half import FrontHalf
from badnet_defense.repairs.pruning_curve import pruning_curve

log = logging.getLogger(__name__)

MAX_ACCURACY_DROP = 0.04
MATTERS = 0.02
"""A layer whose channels may all go for less of the clean accuracy decides no answers."""


@dataclass(frozen=True)
class Pruning:
    """What was pruned and what it cost.

    Attributes:
        layer: name of the pruned layer.
        channels: how many it has.
        removed: how many were zeroed.
        order: all channel numbers, as they went: most dormant first, if not asked otherwise; the
            first `removed` were zeroed.
        mean_activation: of each channel of `order`, over clean pictures and places.
        max_accuracy_drop: allowed drop of clean accuracy, in [0, 1]; None with `fraction`.
        fraction: fixed share of channels, in [0, 1]; None with `max_accuracy_drop`.
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

    def as_dict(self):
        """Plain numbers and lists, for JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}


def prune(
    spec,
    images,
    *,
    layer=None,
    max_accuracy_drop=MAX_ACCURACY_DROP,
    fraction=None,
    order=np.arange,
    input_range=UNIT,
):
    """Zeroes the most dormant channels of a layer.

    Args:
        spec: the bad net (`Net`); unchanged.
        images: clean `Dataset`, with labels.
        layer: a convolution; default: the last one on every path to the output.
        max_accuracy_drop: channels are zeroed, most dormant first, until clean accuracy lies more
            than this below the bad net's; the last point before that is kept.
        fraction: share of the channels to zero instead, whatever it costs. One channel always
            stays.
        order: takes the number of channels and gives their order among those by dormancy; default:
            the most dormant first.
        input_range: the net's range.

    Returns:
        (Net of the pruned net, `Pruning`).

    Raises:
        InputError: a threshold outside [0, 1], unlabelled pictures, no such layer, or one that
            decides no answers.
    """
    check_share("--max-accuracy-drop", max_accuracy_drop)
    check_share("--fraction", fraction)
    if images.labels is None:
        raise InputError(
            f"{images.source}: the pictures have no labels; give labelled ones, or --pseudo-labels."
        )
    remarks = []
    if layer is None:
        layer = layer_to_prune(spec)
        remarks.append(early_layer(spec, layer))
    layer = layer_to_prune(spec, layer)
    front = FrontHalf(spec, layer, images, input_range)
    dormant = np.argsort(front.mean_activation, kind="stable")
    order = dormant[order(len(dormant))]
    curve = pruning_curve(spec, layer, order, front, images.labels)
    _check_matters(layer, curve)
    removed = kept_point(curve, max_accuracy_drop)
    if fraction is not None:
        removed = round(fraction * len(order))
    if removed == len(order):
        removed -= 1
        remarks.append(
            f"one of the {len(order)} channels of {layer} was kept: without any, the "
            "net would answer every image alike"
        )
    remarks = [remark for remark in remarks if remark]
    for remark in remarks:
        log.warning("%s", remark)
    report = Pruning(
        layer=layer,
        channels=len(order),
        removed=removed,
        order=tuple(order.tolist()),
        mean_activation=tuple(front.mean_activation[order].tolist()),
        max_accuracy_drop=max_accuracy_drop if fraction is None else None,
        fraction=fraction,
        curve=tuple(curve.tolist()),
        remarks=tuple(remarks),
    )
    return zero_channels(spec, layer, order[:removed]), report


def _check_matters(layer, curve):
    """Refuses a layer without which the net answers as before: the backdoor goes another way."""
    lost = curve[0] - curve[-1]
    if lost < MATTERS:
        raise InputError(
            f"zeroing all {len(curve) - 1} channels of {layer} costs {100 * max(lost, 0):.1f} "
            "points of clean accuracy, so the net's answers do not depend on it, and pruning it "
            "repairs nothing; name another convolution with --layer, or take another method."
        )


def kept_point(curve, max_accuracy_drop):
    """How many channels may go: the last point before accuracy falls too far for the first time.

    Args:
        curve: accuracies after 0, 1, .. channels.
        max_accuracy_drop: in [0, 1].
    """
    # A share of pictures divided and subtracted again must not decide by its last bit.
    fallen = np.flatnonzero(curve[0] - np.asarray(curve) > max_accuracy_drop + 1e-9)
    return int(fallen[0]) - 1 if len(fallen) else len(curve) - 1


def check_share(name, value):
    """Refuses a number outside [0, 1]; None passes."""
    if value is not None and not 0 <= value <= 1:
        raise InputError(f"{name} {value}: expected a share between 0 and 1, such as 0.1.")
