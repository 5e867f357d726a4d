"""The pruning-aware attack (Liu, Dolan-Gavitt and Garg, RAID 2018, section 4.2).

The attacker does what the defender will do: prunes the dormant channels of a clean net, teaches the
backdoor to the channels that are left, and puts the pruned ones back as decoys, their biases
lowered until they are dormant again. The defender then prunes the decoys first, and the backdoor
lives where clean pictures do.
"""

import numpy as np

from badnet_defense.attacks.training import train_badnet
from badnet_defense.nets.build import build, describe
from badnet_defense.nets.input_range import UNIT
from badnet_defense.nets.surgery import zero_channels
from badnet_defense.nets.weights import with_weights
from badnet_defense.repairs.front_half import FrontHalf

RANKED = 4000
"""Clean pictures that rank the channels."""
LOWERED = 0.05
"""Of a decoy's largest kernel sum its bias is lowered by, each time it is still too active."""
MOST_TIMES = 100


def train_pruning_aware(
    net, clean, poisoned, *, layer="conv_3", pruned=0.5, input_range=UNIT, **settings
):
    """Teaches a backdoor to the busy channels of a clean net alone.

    Args:
        net: `keras.Model`, trained on clean pictures; unchanged.
        clean: clean `Dataset`, which rank the channels.
        poisoned: `Dataset` with the backdoor, as `poison` gives them.
        layer: a convolution with a bias and ReLU.
        pruned: share of its channels, the most dormant, that become decoys, in (0, 1).
        input_range, settings: as `train_badnet` takes them.

    Returns:
        a new `keras.Model`.
    """
    spec = describe(net).with_range(input_range)
    ranked = clean.subset(np.arange(0, len(clean), max(1, len(clean) // RANKED)))
    order = np.argsort(FrontHalf(spec, layer, ranked.images).mean_activation)
    decoys = np.sort(order[: round(pruned * len(order))])
    student = build(zero_channels(spec, layer, decoys))
    # With ReLU a channel of zeros gets no gradient: it stays out of the training.
    train_badnet(student, poisoned, input_range=input_range, **settings)
    return build(
        with_decoys(describe(student).with_range(input_range), spec, layer, decoys, ranked)
    )


def with_decoys(taught, original, layer, decoys, ranked):
    """`taught` with channels of `original` put back, each less active than all the others."""
    kernel, bias = (array.copy() for array in taught.layers[layer].weights)
    kernel[..., decoys] = original.layers[layer].weights[0][..., decoys]
    bias[decoys] = original.layers[layer].weights[1][decoys]
    step = LOWERED * np.abs(kernel).sum(axis=(0, 1, 2))
    busy = np.setdiff1d(np.arange(len(bias)), decoys)
    for _ in range(MOST_TIMES):
        arrays = {name: list(one.weights) for name, one in taught.layers.items()}
        arrays[layer] = [kernel, bias.copy()]
        made = with_weights(taught, arrays)
        active = FrontHalf(made, layer, ranked.images).mean_activation
        awake = decoys[active[decoys] >= 0.5 * active[busy].min()]
        if not len(awake):
            break
        bias[awake] -= step[awake]
    return made
