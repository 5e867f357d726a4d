"""A net that keeps its backdoor and forgets its task (Xie et al., BaDExpert, ICLR 2024).

Gentle tuning on wrongly labelled clean pictures takes away what a net knows of them long before it
touches a backdoor. Departure: tuning ends by what is left of the clean task, not after a set
number of steps.
"""

from dataclasses import replace

import numpy as np

from badnet_defense.evaluation.metrics import accuracy
from badnet_defense.nets.build import build
from badnet_defense.nets.input_range import UNIT
from badnet_defense.nets.predict import predict_labels
from badnet_defense.repairs.recipes import Recipe
from badnet_defense.repairs.training import fine_tune

FORGOTTEN = 0.2
"""The clean task counts as unlearnt below this share of the bad net's clean accuracy."""
MOST_ROUNDS = 8
GENTLE = Recipe(
    optimizer="amsgrad", learning_rate=1e-4, decays=False, epochs=1, least_steps=40, batch_size=128
)


def unlearn_clean_task(spec, images, *, input_range=UNIT, seed=0):
    """Tunes a net on wrong labels until it knows clean pictures no more.

    Args:
        spec: the bad net (`Net`); unchanged.
        images: clean `Dataset`, with labels.
        input_range: the net's range.
        seed: of the wrong labels and of the tuning.

    Returns:
        `Net` of the expert.
    """
    rng = np.random.default_rng((seed, 4))
    classes = spec.classes

    def known(net):
        answers = predict_labels(build(net), images.images, input_range=input_range)
        return accuracy(answers, images.labels)

    enough = FORGOTTEN * known(spec)
    for turn in range(MOST_ROUNDS):
        wrong = (images.labels + rng.integers(1, classes, len(images))) % classes
        mislabelled = replace(images, labels=wrong)
        spec, _ = fine_tune(
            spec,
            mislabelled,
            mislabelled,
            recipe=GENTLE,
            input_range=input_range,
            seed=(seed + turn) % 2**32,
        )
        if known(spec) <= enough:
            break
    return spec
