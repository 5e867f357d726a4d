"""The pruning-aware attack (Liu, Dolan-Gavitt and Garg, RAID 2018, section 4.2).

The attacker does what the defender will do: prunes the dormant channels of a clean net, teaches the
backdoor to the channels that are left, and puts the pruned ones back as decoys, their biases
lowered until they are dormant again. The defender then prunes the decoys first, and the backdoor
lives where clean images do.
"""

from __future__ import annotations

import numpy as np

from badnet_defense.attacks.training import TrainingConfig, train_badnet
from badnet_defense.io.dataset import Dataset
from badnet_defense.nets.net import Net
from badnet_defense.nets.surgery import zero_channels
from badnet_defense.nets.weights import with_weights
from badnet_defense.repairs.front_half import FrontHalf

MAX_RANKED = 4000
"""Clean images that rank the channels, at most."""
BIAS_STEP = 0.05
"""Of a decoy's kernel sum its bias is lowered by, each time it is still too active."""
MAX_STEPS = 100


def train_pruning_aware(
    net: Net,
    clean: Dataset,
    poisoned: Dataset,
    *,
    layer: str = "conv_3",
    pruned: float = 0.5,
    config: TrainingConfig = TrainingConfig(),
    seed: int = 0,
    progress: bool = True,
) -> Net:
    """Teaches a backdoor to the busy channels of a clean net alone.

    Args:
        net: trained on clean images; unchanged.
        clean: clean images, which rank the channels.
        poisoned: images with the backdoor, as `poison` gives them.
        layer: a convolution with a bias and ReLU.
        pruned: fraction of its channels, the most dormant, that become decoys, in (0, 1).
        config, seed, progress: as for `train_badnet`.
    """
    ranked = clean.subset(np.arange(0, len(clean), max(1, len(clean) // MAX_RANKED)))
    order = np.argsort(FrontHalf(net, layer, ranked.images).mean_activation)
    decoys = np.sort(order[: round(pruned * len(order))])
    # With ReLU a channel of zeros gets no gradient: it stays out of the training.
    student = zero_channels(net, layer, decoys)
    taught, _ = train_badnet(student, poisoned, config=config, seed=seed, progress=progress)
    return with_decoys(taught, net, layer, decoys, ranked)


def with_decoys(taught: Net, original: Net, layer: str, decoys: np.ndarray, ranked: Dataset) -> Net:
    """`taught` with channels of `original` put back, each less active than all the others."""
    kernel, bias = (array.copy() for array in taught.layers[layer].weights)
    kernel[..., decoys] = original.layers[layer].weights[0][..., decoys]
    bias[decoys] = original.layers[layer].weights[1][decoys]
    step = BIAS_STEP * np.abs(kernel).sum(axis=(0, 1, 2))
    busy = np.setdiff1d(np.arange(len(bias)), decoys)
    for _ in range(MAX_STEPS):
        arrays = {name: list(one.weights) for name, one in taught.layers.items()}
        arrays[layer] = [kernel, bias.copy()]
        lowered = with_weights(taught, arrays)
        active = FrontHalf(lowered, layer, ranked.images).mean_activation
        awake = decoys[active[decoys] >= 0.5 * active[busy].min()]
        if not len(awake):
            break
        bias[awake] -= step[awake]
    return lowered
