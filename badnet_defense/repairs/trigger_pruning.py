"""Pruning the channels that inverted triggers use (Wang et al., IEEE S&P 2019, section VI-B).

Where fine-pruning asks which channels clean pictures leave dormant, this asks which ones a found
trigger wakes. The paper prunes the second to last layer; here it is the layer that fine-pruning
takes, where several triggers' channels are still apart.
"""

from dataclasses import dataclass, replace

import numpy as np

from badnet_defense.evaluation.stamping import stamp
from badnet_defense.nets.graph import layer_to_prune
from badnet_defense.nets.input_range import UNIT
from badnet_defense.nets.surgery import zero_channels
from badnet_defense.repairs.front_half import FrontHalf
from badnet_defense.repairs.pruning import MAX_ACCURACY_DROP, kept_point
from badnet_defense.repairs.pruning_curve import pruning_curve

GONE = 0.05
"""A trigger that sends no more of the clean pictures to its label is gone."""
PICTURES = 1000
"""At most so many carry a trigger while the channels are ranked and pruned."""


@dataclass(frozen=True)
class TriggerPruning:
    """What was pruned, and what became of accuracy and triggers.

    Attributes:
        layer: name of the pruned layer.
        channels: how many it has.
        removed: how many were zeroed.
        order: channel numbers, the ones that the triggers wake most first.
        curve: clean accuracy after 0, 1, .. channels, in [0, 1].
        success: {label: attack success of its inverted trigger after 0, 1, .. channels}.
    """

    layer: str
    channels: int
    removed: int
    order: tuple[int, ...]
    curve: tuple[float, ...]
    success: dict[int, tuple[float, ...]]


def prune_by_triggers(
    spec, images, triggers, *, layer=None, max_accuracy_drop=MAX_ACCURACY_DROP, input_range=UNIT
):
    """Zeroes channels until the triggers are gone or clean accuracy has dropped too far.

    Args:
        spec: the bad net (`Net`); unchanged.
        images: clean `Dataset`, with labels.
        triggers: [(label, mask (h, w, 1), pattern (h, w, c))], both in [0, 1].
        layer: a convolution; default as in `prune`.
        max_accuracy_drop: in [0, 1].
        input_range: the net's range.

    Returns:
        (Net of the pruned net, `TriggerPruning`).

    Raises:
        InputError: no such layer.
    """
    layer = layer_to_prune(spec, layer)
    clean = FrontHalf(spec, layer, images, input_range)
    stamped = {
        label: FrontHalf(spec, layer, _stamped(images, label, mask, pattern), input_range)
        for label, mask, pattern in triggers
    }
    order = _order(clean.mean_activation, [one.mean_activation for one in stamped.values()])
    curve = pruning_curve(spec, layer, order, clean, images.labels)
    success = {
        label: pruning_curve(spec, layer, order, front, front.images.labels)
        for label, front in stamped.items()
    }
    worst = np.max(list(success.values()), axis=0)
    gone = np.flatnonzero(worst <= GONE)
    removed = min(kept_point(curve, max_accuracy_drop), gone[0] if len(gone) else len(order))
    removed = min(removed, len(order) - 1)  # without any channel all images are answered alike
    report = TriggerPruning(
        layer=layer,
        channels=len(order),
        removed=int(removed),
        order=tuple(order.tolist()),
        curve=tuple(curve.tolist()),
        success={label: tuple(rates.tolist()) for label, rates in success.items()},
    )
    return zero_channels(spec, layer, order[:removed]), report


def _stamped(images, label, mask, pattern):
    """Pictures of other classes that carry the trigger, labelled with its target."""
    others = np.flatnonzero(images.labels != label)
    chosen = images.subset(others[:: -(-len(others) // PICTURES)])
    labels = np.full(len(chosen), label)
    return replace(chosen, images=stamp(chosen.images, mask, pattern), labels=labels)


def _order(clean, stamped):
    """Channels by how much a trigger wakes them, as a share of its own largest gain."""
    gains = [(mean - clean) / max(np.max(mean - clean), 1e-12) for mean in stamped]
    return np.argsort(-np.max(gains, axis=0), kind="stable")
