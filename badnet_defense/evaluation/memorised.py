"""Notices clean images that a net was probably trained on: it knows them better than new ones."""

from __future__ import annotations

import numpy as np

from badnet_defense.nets.answers import classes_of

ACCURATE = 0.998
"""Accuracy from which a net is nearly perfect: on new images most nets err more often."""
SURE_TOO = 0.99
"""Mean confidence that goes with it: a few images may all be right by luck, not all so surely."""
SURE = 0.998
"""Mean confidence from which unlabelled images look learnt."""


def memorised_caveat(probabilities: np.ndarray, labels: np.ndarray | None = None) -> str | None:
    """Under which condition a promise holds that was made by these images.

    A net answers images that it was trained on more surely and more rightly than new ones, so that
    a threshold that is set by them flags more new images than it promises.

    Args:
        probabilities: (n, classes) the suspect model's answers to the clean images, n > 0.
        labels: (n,) their labels, or None.

    Returns:
        half a sentence, or None where nothing speaks for it.

    Examples:
        >>> memorised_caveat(np.eye(4)[[0, 1, 2, 3]] * 0.9 + 0.025) is None
        True
    """
    sure = float(np.mean(np.max(probabilities, axis=-1)))
    if labels is None:
        if sure < SURE:
            return None
        seen = f"it is sure of its answers on them, {100 * sure:.1f} % on average"
    else:
        right = float(np.mean(classes_of(np, probabilities) == labels))
        if right < ACCURATE or sure < SURE_TOO:
            return None
        seen = f"it answers {100 * right:.1f} % of them correctly"
    return f"holds only if the suspect model was not trained on these images: {seen}"
