"""Magnitude pruning while tuning: ever more of the smallest weights are held at zero.

Zhu and Gupta, "To Prune, or Not to Prune", 2017: sparsity rises from nothing to its end by a cubic
polynomial. Two of the challenge's published solutions used it. Departure: the schedule ends at
half of the steps, and only nets after that may be kept.
"""

from dataclasses import replace

import numpy as np

from badnet_defense.repairs.recipes import RECIPES
from badnet_defense.repairs.validated_tuning import tune_held_out

KERNELS = ("Conv2D", "Dense")
LOOKS = 20
"""How many times on its way the sparsity rises."""
MAGNITUDE = replace(RECIPES["classic"], epochs=10, least_steps=800, batch_size=128)


def prune_magnitudes(spec, images, *, sparsity=0.5, recipe=MAGNITUDE, **settings):
    """Tunes a net while the smallest weights of each kernel are zeroed for good.

    Args:
        spec: the bad net (`Net`); unchanged.
        images: clean `Dataset`, with labels.
        sparsity: share of each kernel that is zero in the end, in [0, 1).
        recipe: a `Recipe`.
        settings: `targets`, `input_range` and `seed` as `fine_tune` takes them.

    Returns:
        (`Net` of the repaired net, report as plain numbers).
    """
    schedule = PolynomialSparsity(spec, sparsity)
    tuned, tuning = tune_held_out(spec, images, recipe=recipe, after_step=schedule, **settings)
    return tuned, {"sparsity": sparsity, "tuning": tuning.as_dict()}


class PolynomialSparsity:
    """After each step, holds the smallest weights of each kernel at zero."""

    def __init__(self, spec, final, *, power=3, ends=0.5):
        self.names = [name for name, layer in spec.layers.items() if layer.kind in KERNELS]
        self.final, self.power, self.ends = final, power, ends
        self.masks, self.look = None, -1

    def sparsity(self, done):
        """Share of zeros after this share of all steps."""
        return self.final * (1 - (1 - min(done / self.ends, 1)) ** self.power)

    def __call__(self, net, done):
        """Zeroes; True once the final sparsity is reached."""
        kernels = [net.get_layer(name).kernel for name in self.names]
        look = min(int(LOOKS * done / self.ends), LOOKS)
        if look != self.look:
            self.look = look
            share = self.sparsity(look / LOOKS * self.ends)
            self.masks = [smallest_zeroed(kernel.numpy(), share) for kernel in kernels]
        for kernel, mask in zip(kernels, self.masks, strict=True):
            kernel.assign(kernel * mask)
        return look == LOOKS


def smallest_zeroed(weights, share):
    """A mask of `weights`: 0 on the share of them with the smallest magnitudes, else 1."""
    count = round(share * weights.size)
    mask = np.ones(weights.size, np.float32)
    mask[np.argsort(np.abs(weights), axis=None, kind="stable")[:count]] = 0
    return mask.reshape(weights.shape)
