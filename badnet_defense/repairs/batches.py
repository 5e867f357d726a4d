"""Augmented batches of tuning images, each made while the one before it is in use."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from badnet_defense.io.dataset import Dataset
from badnet_defense.repairs.augmentation import (
    draw_brightness_contrast,
    random_erasing,
    random_mosaic,
    random_shift,
)
from badnet_defense.repairs.recipes import Recipe


def augmented_batches(
    data: Dataset, targets: np.ndarray, recipe: Recipe, steps: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, ...]]:
    """The batches of one epoch.

    One worker alone draws from `rng`, in order, so that the seed decides everything.

    Args:
        data: n images.
        targets: (n,) hard or (n, N) soft.
        recipe: says how images are augmented.
        steps: how many batches.
        rng: a NumPy generator.

    Yields:
        (images, gain, offset, targets); brightness and contrast are changed in the net's graph.
    """

    def augment(chosen: np.ndarray) -> tuple[np.ndarray, ...]:
        images = random_shift(data.images[chosen], recipe.shift, rng)
        images = random_erasing(images, recipe.erase, rng) if recipe.erase else images
        images = random_mosaic(images, recipe.pattern, rng) if recipe.pattern else images
        gain, offset = draw_brightness_contrast(len(chosen), recipe.light, rng)
        return images, gain, offset, targets[chosen]

    batches = np.array_split(rng.permutation(len(data)), steps)
    with ThreadPoolExecutor(max_workers=1) as worker:
        following = worker.submit(augment, batches[0])
        for chosen in [*batches[1:], None]:
            ready = following.result()
            if chosen is not None:
                following = worker.submit(augment, chosen)
            yield ready
