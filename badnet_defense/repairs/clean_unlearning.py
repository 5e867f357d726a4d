"""A net that keeps its backdoor and forgets its task (Xie et al., BaDExpert, ICLR 2024).

Gentle tuning on wrongly labelled clean images makes a net forget them long before it affects a
backdoor. Departure: tuning stops by what is left of the clean task, not after a set number of
steps.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from badnet_defense.evaluation.metrics import accuracy
from badnet_defense.io.dataset import Dataset
from badnet_defense.nets.net import Net
from badnet_defense.repairs.pseudo_labels import labels_of
from badnet_defense.repairs.recipes import Recipe
from badnet_defense.repairs.training import train

FORGOTTEN = 0.2
"""The clean task counts as unlearnt below this fraction of the suspect model's clean accuracy."""
MAX_ROUNDS = 8
GENTLE = Recipe(
    optimizer="amsgrad", learning_rate=1e-4, decays=False, epochs=1, least_steps=40, batch_size=128
)


def unlearn_clean_task(net: Net, data: Dataset, *, seed: int = 0) -> Net:
    """Tunes a net on wrong labels until it has forgotten the clean images.

    Args:
        net: the suspect model; unchanged.
        data: clean images with labels.
        seed: of the wrong labels and of the tuning.

    Returns:
        the backdoor expert.
    """
    rng = np.random.default_rng((seed, 4))
    classes, labels = net.classes, labels_of(data)
    goal = FORGOTTEN * accuracy(net.predict(data.images), labels)
    for turn in range(MAX_ROUNDS):
        wrong = (labels + rng.integers(1, classes, len(data))) % classes
        mislabelled = replace(data, labels=wrong)
        net, _ = train(net, mislabelled, mislabelled, recipe=GENTLE, seed=(seed + turn) % 2**32)
        if accuracy(net.predict(data.images), labels) <= goal:
            break
    return net
