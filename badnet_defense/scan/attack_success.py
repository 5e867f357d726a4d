"""Attack success rate of inverted triggers on clean images, stamped in place, without a shift."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from badnet_defense.evaluation.stamping import stamp
from badnet_defense.nets.net import Net

MAX_IMAGES = 500
"""At most this many images are used to measure a trigger's ASR."""
OPACITY_FACTORS = (1.0, 1.1, 1.25, 1.5, 2.0)
"""Factors on the opacity of a mask that misses the goal, tried until it reaches it."""
TOLERANCE = 0.01
"""Where no opacity reaches the goal, an ASR this far below the best one is as good."""

MIN_ATTACK_SUCCESS = 0.5
"""What sends fewer of the images to its label is no trigger, however small its mask."""


def measure_attack_success(
    net: Net,
    labels: Sequence[int] | np.ndarray,
    masks: np.ndarray,
    patterns: np.ndarray,
    images: np.ndarray,
    *,
    goal: float = 0.99,
) -> tuple[np.ndarray, np.ndarray]:
    """Masks made as opaque as the goal needs, and the attack success rate that they have.

    So all norms are compared at the same attack success rate, measured on many images.

    Args:
        net: its output may be logits.
        labels: (L,) class numbers.
        masks: (L, h, w, 1) in [0, 1].
        patterns: (L, h, w, c) in [0, 1].
        images: (n, h, w, c) clean images, pixels 0-255; those that the net gives a label by itself
            do not count for its trigger.
        goal: attack success rate to reach, in [0, 1].

    Returns:
        (masks (L, h, w, 1), attack success rates (L,)); below `goal` where no opacity reaches it.

    Examples:
        >>> from badnet_defense.nets import deep_id, describe
        >>> net = describe(deep_id(classes=4))
        >>> images = np.random.default_rng(0).integers(0, 256, (8, *net.input_shape), dtype="uint8")
        >>> masks, patterns = np.zeros((1, 55, 47, 1)), np.ones((1, 55, 47, 3))
        >>> measure_attack_success(net, [3], masks, patterns, images)[1]  # an invisible trigger
        array([0.])
    """
    images = images[:: -(-len(images) // MAX_IMAGES)]
    answers = net.predict(images)
    measured = [
        _opaque_enough(net, label, mask, pattern, images[answers != label], goal)
        for label, mask, pattern in zip(labels, masks, patterns, strict=True)
    ]
    grown, rates = zip(*measured, strict=True)
    return np.stack(grown), np.array(rates)


def _opaque_enough(
    net: Net, label: int, mask: np.ndarray, pattern: np.ndarray, images: np.ndarray, goal: float
) -> tuple[np.ndarray, float]:
    """(mask, ASR) of the faintest mask that reaches the goal, or comes near its best."""
    if not len(images):  # no image of another class: the smallest trigger says nothing
        return np.ones_like(mask), 0.0
    tried: list[tuple[np.ndarray, float]] = []
    for factor in OPACITY_FACTORS:
        grown = np.minimum(mask * factor, 1)
        answers = net.predict(stamp(images, grown, pattern))
        tried.append((grown, float(np.mean(answers == label))))
        if tried[-1][1] >= goal:
            break
    enough = min(goal, max(rate for _, rate in tried) - TOLERANCE)
    return next((grown, rate) for grown, rate in tried if rate >= enough)
