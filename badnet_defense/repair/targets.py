"""What a net is tuned towards: labels, the bad net's own answers on clean pictures, or both."""

import numpy as np

from badnet_defense.data.input_range import UNIT
from badnet_defense.nets.build import build
from badnet_defense.nets.graph import without_softmax
from badnet_defense.nets.predict import predict_probabilities

TEMPERATURE = 3.0
"""Softens the bad net's answers, so that its second thoughts count too (Hinton et al. 2015)."""


def own_answers(spec, pictures, *, input_range=UNIT):
    """The net's own probabilities (n, classes) for `pictures`: pseudo-labels."""
    return predict_probabilities(build(spec), pictures, input_range=input_range)


def taught_labels(spec, images, teacher, *, input_range=UNIT):
    """Labels mixed with the bad net's softened answers: (n, classes) `float32`.

    The answers are those for the clean pictures as they are: whatever is laid over a picture while
    tuning, a trigger among it, has no say in them.

    Args:
        spec: the bad net.
        images: clean `LabelledImages` with labels.
        teacher: share of the bad net's answers, in [0, 1].
        input_range: the net's range.
    """
    net = build(without_softmax(spec))
    logits = predict_probabilities(net, images.pictures, input_range=input_range) / TEMPERATURE
    softened = np.exp(logits - logits.max(axis=1, keepdims=True))
    targets = softened * (teacher / softened.sum(axis=1, keepdims=True))
    targets[np.arange(len(images)), images.labels] += np.float32(1 - teacher)
    return targets
