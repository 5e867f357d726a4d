"""Tuning pictures in batches, changed at random while the batch before them is in use."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from badnet_defense.repairs.augmentation import erased, light_changes, patterned, shifted


def prepared(images, targets, recipe, steps, rng):
    """The batches of one epoch.

    One worker alone draws from `rng`, in order, so that the seed decides everything.

    Args:
        images: `Dataset`.
        targets: (n,) hard or (n, classes) soft.
        recipe: a `Recipe`, which says how pictures are changed.
        steps: how many batches.
        rng: a NumPy generator.

    Yields:
        (pictures, gain, offset, targets); light is left to the net's own graph.
    """

    def prepare(chosen):
        pictures = shifted(images.images[chosen], recipe.shift, rng)
        pictures = erased(pictures, recipe.erase, rng) if recipe.erase else pictures
        pictures = patterned(pictures, recipe.pattern, rng) if recipe.pattern else pictures
        return (pictures, *light_changes(len(chosen), recipe.light, rng), targets[chosen])

    batches = np.array_split(rng.permutation(len(images)), steps)
    with ThreadPoolExecutor(max_workers=1) as worker:
        following = worker.submit(prepare, batches[0])
        for chosen in [*batches[1:], None]:
            ready = following.result()
            if chosen is not None:
                following = worker.submit(prepare, chosen)
            yield ready
