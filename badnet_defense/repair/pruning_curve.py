"""Clean accuracy after each pruned channel, computed by updating only what each channel changes.

The plain way zeroes a channel and predicts every picture again. Here everything before the layer
runs once; the layers that take its channels in are linear in them, so their sums are kept and each
further channel only takes its own share out; and only pictures on which the channel was not
already silent go through the rest of the net. Answers that stand on a knife's edge are settled the
plain way, so that the curve equals the plain one number by number.
"""

import numpy as np
from tqdm import tqdm

from badnet_defense.nets.build import build
from badnet_defense.nets.predict import compiled
from badnet_defense.repair.back_half import BackHalf
from badnet_defense.repair.channels import zero_channels


def pruning_curve(spec, layer, order, front, labels):
    """Share of pictures answered with their label, after 0, 1, .. channels were zeroed.

    Args:
        spec: the net.
        layer: the layer whose channels are zeroed.
        order: channel numbers, first to be zeroed first.
        front: a `FrontHalf` of the same net and layer.
        labels: (n,) class numbers.

    Returns:
        (len(order) + 1,) `float64` accuracies in [0, 1].
    """
    back = BackHalf(spec, layer, front)
    correct = np.zeros(len(order) + 1, np.int64)
    near = [[] for _ in correct]
    for indices, frontier, sides in tqdm(front, desc="pruning", leave=False, disable=None):
        answers = back.begin(frontier, sides, labels[indices])
        for step, channel in enumerate([None, *order]):
            if channel is not None:
                answers.zero(channel)
            correct[step] += np.count_nonzero(answers.correct & ~answers.near)
            near[step] += (indices.start + np.flatnonzero(answers.near)).tolist()
    plain = _PlainWay(spec, layer, front, labels)
    for step, pictures in enumerate(near):
        if pictures:
            correct[step] += plain.correct(order[:step], pictures)
    return correct / len(labels)


class _PlainWay:
    """Settles single pictures by running the whole net again, as `keras.Model.predict` would."""

    BATCH = 32  # predict's default, so that the sums are taken in the same order

    def __init__(self, spec, layer, front, labels):
        self.spec, self.layer, self.labels = spec, layer, labels
        self.images = front.images
        self.net = build(spec)
        self.run = compiled(self.net, front.input_range, labels=True)

    def correct(self, pruned, pictures):
        """How many of `pictures` a net without the channels `pruned` answers with their label."""
        zeroed = zero_channels(self.spec, self.layer, pruned)
        for name, layer in zeroed.layers.items():
            if layer is not self.spec.layers[name]:
                self.net.get_layer(name).set_weights(list(layer.weights))
        padded = np.resize(pictures, -(-len(pictures) // self.BATCH) * self.BATCH)
        batches = padded.reshape(-1, self.BATCH)
        answers = np.concatenate([self.run(self.images.pictures[batch]) for batch in batches])
        return int(np.count_nonzero(answers[: len(pictures)] == self.labels[pictures]))
