"""The suspect model's own predictions where clean images have no labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from badnet_defense.errors import InputError
from badnet_defense.io.dataset import Dataset
from badnet_defense.nets.answers import NO_ANSWER, classes_of
from badnet_defense.nets.net import Net
from badnet_defense.nets.outputs import is_distribution


def pseudo_labelled(net: Net, data: Dataset) -> tuple[Dataset, np.ndarray]:
    """Images with a net's predictions as labels, whatever labels they had.

    Args:
        net: answers with probabilities.
        data: n images.

    Returns:
        (`Dataset`, (n, N) `float32` predicted probabilities, as soft targets).

    Raises:
        InputError: the net's outputs are no probabilities, or a prediction is not finite.
    """
    if not is_distribution(net):
        raise InputError(
            f"{net.name}: its outputs are no probabilities, so they cannot be labels; append a "
            "softmax (nets.as_probabilities does it)."
        )
    targets = net.predict_proba(data.images)
    labels = classes_of(np, targets).astype(np.int64)
    if broken := int(np.sum(labels == NO_ANSWER)):
        raise InputError(
            f"the suspect model's predictions for {broken} of {len(labels)} clean images are not "
            "finite, so they cannot be labels; is the input range right?"
        )
    return replace(data, labels=labels), targets


def labels_of(data: Dataset) -> np.ndarray:
    """The labels (n,) of images that need them.

    Raises:
        InputError: they have none.
    """
    if data.labels is None:
        raise InputError(
            f"{data.source}: the images have no labels; give labelled ones, or use the model's "
            "predictions as pseudo-labels."
        )
    return data.labels
