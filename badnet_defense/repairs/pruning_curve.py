"""Clean accuracy after each pruned channel; what comes before the channels mix runs once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from badnet_defense.nets.answers import classes_of
from badnet_defense.nets.backend import compiled, forward
from badnet_defense.nets.graph import submodel
from badnet_defense.nets.net import Net
from badnet_defense.nets.surgery import zero_channels
from badnet_defense.repairs.front_half import FrontHalf


def pruning_curve(
    net: Net,
    layer: str,
    order: Sequence[int] | np.ndarray,
    front: FrontHalf,
    labels: np.ndarray,
) -> np.ndarray:
    """Share of images answered with their label, after 0, 1, .. channels are zeroed.

    Args:
        net: the sunett model.
        layer: the layer whose channels are zeroed.
        order: channel numbers, first to be zeroed first.
        front: a `FrontHalf` of the same net and layer.
        labels: (n,) class numbers.

    Returns:
        (len(order) + 1,) `float64` accuracies in [0, 1].
    """
    predict = _back_half(net, front)
    silent = _silent_frontier(net, layer, front)
    correct = np.zeros(len(order) + 1, np.int64)
    for indices, frontier, sides in tqdm(front, desc="pruning", leave=False, disable=None):
        frontier = frontier.copy()
        for step, channel in enumerate([None, *order]):
            if channel is not None:
                frontier[..., channel] = silent[..., channel]
            correct[step] += np.count_nonzero(predict(frontier, sides) == labels[indices])
    return correct / len(labels)


def _back_half(net: Net, front: FrontHalf) -> Callable[..., np.ndarray]:
    """A function: frontier (n, ..) and a list of side results (n, ..) -> class numbers (n,)."""
    from keras import ops

    weights, answers = forward(submodel(net, [front.frontier, *front.sides], [net.output]))

    def classes(state: Any, frontier: Any, *sides: Any) -> Any:
        return classes_of(ops, answers(state, [frontier, *sides] if sides else frontier))

    run = compiled(classes)
    return lambda frontier, sides: np.asarray(run(weights(), frontier, *sides))


def _silent_frontier(net: Net, layer: str, front: FrontHalf) -> np.ndarray:
    """The frontier (1, ..) where every channel of the layer is zero: the same for every image."""
    silent = zero_channels(net, layer, slice(None))
    black = np.zeros((1, *net.input_shape), np.float32)
    return submodel(silent, [0], [front.frontier])(black).numpy()
