"""Clean accuracy after each pruned channel; what comes before the channels mix runs once."""

import numpy as np
from tqdm import tqdm

from badnet_defense.nets.answers import classes_of
from badnet_defense.nets.backend import compiled, forward
from badnet_defense.nets.graph import part
from badnet_defense.nets.surgery import zero_channels


def pruning_curve(spec, layer, order, front, labels):
    """Share of images answered with their label, after 0, 1, .. channels are zeroed.

    Args:
        spec: the net.
        layer: the layer whose channels are zeroed.
        order: channel numbers, first to be zeroed first.
        front: a `FrontHalf` of the same net and layer.
        labels: (n,) class numbers.

    Returns:
        (len(order) + 1,) `float64` accuracies in [0, 1].
    """
    predict = _back_half(spec, front)
    silent = _silent_frontier(spec, layer, front)
    correct = np.zeros(len(order) + 1, np.int64)
    for indices, frontier, sides in tqdm(front, desc="pruning", leave=False, disable=None):
        frontier = frontier.copy()
        for step, channel in enumerate([None, *order]):
            if channel is not None:
                frontier[..., channel] = silent[..., channel]
            correct[step] += np.count_nonzero(predict(frontier, sides) == labels[indices])
    return correct / len(labels)


def _back_half(spec, front):
    """A function: frontier (n, ..) and a list of side results (n, ..) -> class numbers (n,)."""
    from keras import ops

    weights, answers = forward(part(spec, [front.frontier, *front.sides], [spec.output]))

    def classes(state, frontier, *sides):
        return classes_of(ops, answers(state, [frontier, *sides] if sides else frontier))

    run = compiled(classes)
    return lambda frontier, sides: np.asarray(run(weights(), frontier, *sides))


def _silent_frontier(spec, layer, front):
    """The frontier (1, ..) where every channel of the layer is zero: the same for every image."""
    silent = zero_channels(spec, layer, slice(None))
    black = np.zeros((1, *spec.input_shape), np.float32)
    return part(silent, [0], [front.frontier])(black).numpy()
