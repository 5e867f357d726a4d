"""What inverted triggers are worth on clean pictures, where they were drawn and unshifted."""

import numpy as np

from badnet_defense.evaluation.stamping import stamp
from badnet_defense.nets.input_range import UNIT
from badnet_defense.nets.predict import predict_labels

PICTURES = 500
"""At most so many judge a trigger."""
GROWTH = (1.0, 1.1, 1.25, 1.5, 2.0)
"""Factors on the opacity of a mask that misses the goal, until it meets it."""
NEARLY = 0.01
"""Where no opacity meets the goal, success this far below the best one's is as good."""

WORKS = 0.5
"""What sends fewer of the pictures to its label is no trigger, however small its mask."""


def measure_attack_success(net, labels, masks, patterns, pictures, *, goal=0.99, input_range=UNIT):
    """Masks made as opaque as the goal needs, and the attack success that they have.

    So all norms are compared at the same attack success, measured on many pictures.

    Args:
        net: `keras.Model`, pictures -> one number for each class.
        labels: (L,) class numbers.
        masks: (L, h, w, 1) in [0, 1].
        patterns: (L, h, w, c) in [0, 1].
        pictures: (n, h, w, c) clean pictures, pixels 0-255; those that the net gives a label by
            itself don't judge its trigger.
        goal: attack success to reach.
        input_range: the net's range.

    Returns:
        (masks (L, h, w, 1), attack success (L,)); below `goal` where no opacity meets it.
    """
    pictures = pictures[:: -(-len(pictures) // PICTURES)]
    own = predict_labels(net, pictures, input_range=input_range)
    judged = [
        _opaque_enough(net, label, mask, pattern, pictures[own != label], goal, input_range)
        for label, mask, pattern in zip(labels, masks, patterns, strict=True)
    ]
    masks, successes = zip(*judged, strict=True)
    return np.stack(masks), np.array(successes)


def _opaque_enough(net, label, mask, pattern, pictures, goal, input_range):
    """(mask, attack success) of the faintest mask that meets the goal, or comes near its best."""
    if not len(pictures):  # nobody to fool: the smallest trigger says nothing
        return np.ones_like(mask), 0.0
    tried = []
    for factor in GROWTH:
        grown = np.minimum(mask * factor, 1)
        answers = predict_labels(net, stamp(pictures, grown, pattern), input_range=input_range)
        tried.append((grown, float(np.mean(answers == label))))
        if tried[-1][1] >= goal:
            break
    enough = min(goal, max(success for _, success in tried) - NEARLY)
    return next(one for one in tried if one[1] >= enough)
