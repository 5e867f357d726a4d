"""The bad net's own answers where clean pictures have no labels."""

from dataclasses import replace

import numpy as np

from badnet_defense.errors import InputError
from badnet_defense.nets.answers import NO_ANSWER, classes_of
from badnet_defense.nets.input_range import UNIT
from badnet_defense.nets.predict import predict_probabilities


def pseudo_labelled(net, images, *, input_range=UNIT):
    """Pictures with a net's answers as labels, whatever labels they had.

    Args:
        net: `keras.Model` that answers with probabilities.
        images: `Dataset`, n pictures.
        input_range: the net's range.

    Returns:
        (`Dataset`, (n, classes) soft targets `float32`).

    Raises:
        InputError: an answer is not finite.
    """
    targets = predict_probabilities(net, images.images, input_range=input_range)
    labels = classes_of(np, targets).astype(np.int64)
    if broken := int(np.sum(labels == NO_ANSWER)):
        raise InputError(
            f"the suspect model's answers to {broken} of {len(labels)} clean images are not "
            "finite; they cannot be labels. Is --input-range right?"
        )
    return replace(images, labels=labels), targets
