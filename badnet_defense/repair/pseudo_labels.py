"""The bad net's own answers where clean pictures have no labels."""

from dataclasses import replace

import numpy as np

from badnet_defense.data.input_range import UNIT
from badnet_defense.nets.predict import predict_probabilities


def pseudo_labelled(net, images, *, input_range=UNIT):
    """Pictures with a net's answers as labels, whatever labels they had.

    Args:
        net: `keras.Model` that answers with probabilities.
        images: `LabelledImages`, n pictures.
        input_range: the net's range.

    Returns:
        (`LabelledImages`, (n, classes) soft targets `float32`).
    """
    targets = predict_probabilities(net, images.pictures, input_range=input_range)
    return replace(images, labels=targets.argmax(axis=1).astype(np.int64)), targets
