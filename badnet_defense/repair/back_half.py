"""Runs the part of a net behind a layer again and again, as its channels are silenced."""

import numpy as np

from badnet_defense.nets.graph import part, without_softmax
from badnet_defense.repair.channels import zero_channels
from badnet_defense.repair.linear import linear_consumers, sums_model

NEAR = 1e-4
"""Margins below this share of the logits' size count as a knife's edge: `float32` sums taken in
another order differ by a tenth of that."""


class BackHalf:
    """Keeps the answers for one batch of pictures up to date while channels are silenced.

    Where the layers that take the channels in are linear in them, a silenced channel only takes
    its share out of their sums; else its values are replaced and everything behind runs again.
    A picture answered wrongly stays so while the class that beat its label still does, which
    costs two columns of the last layer instead of all.

    Args:
        spec: the net.
        layer: the layer whose channels are silenced.
        front: its `FrontHalf`.
    """

    def __init__(self, spec, layer, front):
        logits = without_softmax(spec)
        self.silent = _silent_frontier(spec, layer, front)
        self.linear = linear_consumers(logits, front.frontier)
        self._sums = sums_model(logits, front.frontier, self.linear) if self.linear else None
        inputs = front.sides if self.linear else [front.frontier, *front.sides]
        sums = [consumer.position for consumer in self.linear]
        last = logits.layers[logits.calls[logits.output].layer]
        plain_end = last.kind == "Dense" and logits.output not in sums
        end = logits.calls[logits.output].inputs[0] if plain_end else logits.output
        self._features = part(logits, inputs, [end], sums=sums)
        self._last = last if plain_end else None
        self._step, self._judge = self._compiled()

    def begin(self, frontier, sides, labels):
        """The `Answers` for a batch: frontier (n, ..), side results, labels (n,)."""
        return Answers(self, frontier, sides, labels)

    def sums(self, frontier):
        """The sums of the linear layers (a list of arrays that may be written to)."""
        import tensorflow as tf

        return [np.array(result) for result in tf.nest.flatten(self._sums(frontier))]

    def _compiled(self):
        """Two `tf.function`s: take a channel out of the sums and judge; judge as it is."""
        import tensorflow as tf

        judge = _Judge(self._features, self._last)

        def step(change, channel, sums, sides, labels, rivals):
            new = [
                total + consumer.share(change, channel)
                for total, consumer in zip(sums, self.linear, strict=True)
            ]
            return new, judge([*sides, *new], labels, rivals)

        return (tf.function(one, autograph=False, reduce_retracing=True) for one in (step, judge))


class Answers:
    """Which pictures of a batch are answered with their label, after each silenced channel.

    Attributes:
        correct: (n,) the label has the largest logit.
        near: (n,) by a margin too small to say so.
    """

    def __init__(self, back, frontier, sides, labels):
        self._back, self._sides = back, sides
        self._labels = labels.astype(np.int32)
        self._rivals = np.full(len(labels), -1, np.int32)  # the class that beat the label
        self.correct, self.near = np.zeros((2, len(labels)), bool)
        self._frontier = frontier if back.linear else frontier.copy()
        self._sums = back.sums(frontier) if back.linear else []
        every = np.arange(len(labels))
        self._note(every, self._judged(every))

    def zero(self, channel):
        """Silences a channel; only pictures on which it was not silent already are looked at."""
        before, silent = self._frontier[..., channel], self._back.silent[..., channel]
        change = silent - before
        changed = np.flatnonzero(change.reshape(len(change), -1).any(axis=1))
        if not self._back.linear:
            before[...] = silent
        if self._back.linear and len(changed):
            self._take_out(changed, change[changed], channel)
        elif len(changed):
            self._note(changed, self._judged(changed))

    def _take_out(self, rows, change, channel):
        sums, judged = self._back._step(
            change,
            np.int32(channel),
            [total[rows] for total in self._sums],
            [side[rows] for side in self._sides],
            self._labels[rows],
            self._rivals[rows],
        )
        for total, new in zip(self._sums, sums, strict=True):
            total[rows] = new
        self._note(rows, judged)

    def _judged(self, rows):
        given = [*self._sides, *self._sums] if self._back.linear else [self._frontier, *self._sides]
        inputs = [array[rows] for array in given]
        return self._back._judge(inputs, self._labels[rows], self._rivals[rows])

    def _note(self, rows, judged):
        self.correct[rows], self.near[rows], self._rivals[rows] = judged


class _Judge:
    """Inputs of the rest, labels, rivals -> (correct, near, new rivals), as tensors."""

    def __init__(self, features, last):
        self.features, self.last = features, last
        if last is not None:
            self.kernel, *bias = last.weights
            self.bias = bias[0] if bias else np.zeros(self.kernel.shape[1], np.float32)

    def __call__(self, inputs, labels, rivals):
        import tensorflow as tf

        features = self.features(inputs if len(inputs) > 1 else inputs[0], training=False)
        if self.last is None:
            return _judged(features, labels)
        lost = self._still_lost(features, labels, rivals)
        open_rows = tf.where(~lost)[:, 0]
        correct, near, found = _judged(
            self._logits(tf.gather(features, open_rows)), tf.gather(labels, open_rows)
        )
        places = open_rows[:, None]
        rivals = tf.tensor_scatter_nd_update(rivals, places, found)
        blank = tf.zeros_like(lost)
        return (
            tf.tensor_scatter_nd_update(blank, places, correct),
            tf.tensor_scatter_nd_update(blank, places, near),
            rivals,
        )

    def _logits(self, features):
        import tensorflow as tf

        return tf.matmul(features, self.kernel) + self.bias

    def _still_lost(self, features, labels, rivals):
        """True where the class that beat the label before still does, by a safe margin."""
        import tensorflow as tf

        columns = tf.constant(np.ascontiguousarray(self.kernel.T))

        def logit(classes):
            products = tf.einsum("nf,nf->n", features, tf.gather(columns, classes))
            return products + tf.gather(self.bias, classes)

        own, rival = logit(labels), logit(tf.maximum(rivals, 0))
        return (rivals >= 0) & (rival - own > _edge(own, rival))


def _judged(logits, labels):
    import tensorflow as tf

    own = tf.gather(logits, labels, batch_dims=1)
    # The label's own logit is pushed down, so that one search finds the best other class.
    places = tf.stack([tf.range(tf.shape(labels)[0]), labels], axis=1)
    lowest = tf.fill(tf.shape(own), logits.dtype.min)
    others = tf.tensor_scatter_nd_update(logits, places, lowest)
    rivals = tf.argmax(others, axis=1, output_type=tf.int32)
    other = tf.gather(others, rivals, batch_dims=1)
    return own > other, tf.abs(own - other) <= _edge(own, other), rivals


def _edge(one, other):
    """The margin of two logits below which rounding could turn them."""
    import tensorflow as tf

    return NEAR * (1.0 + tf.maximum(tf.abs(one), tf.abs(other)))


def _silent_frontier(spec, layer, front):
    """The frontier (1, ..) where every channel of the layer is silent: the same for any picture."""
    silent = zero_channels(spec, layer, slice(None))
    black = np.zeros((1, *spec.input_shape), np.float32)
    return part(silent, [0], [front.frontier])(black).numpy()
