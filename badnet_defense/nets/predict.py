"""Answers of a Keras net for many pictures, in large batches inside one compiled function."""

import math

import numpy as np

from badnet_defense.data.input_range import UNIT
from badnet_defense.nets import backend
from badnet_defense.nets.backend import forward, padded
from badnet_defense.nets.scaling import scaled_pictures

BATCH = 512
"""Pictures at once: larger batches were no faster on two cores."""
LARGEST = 2**29
"""Bytes that one result inside a net may take for a whole batch; large nets get smaller batches."""


def pictures_at_once(shapes, most):
    """How many pictures fit: `most`, or fewer where one of the result `shapes` is large."""
    bytes_each = 4 * max(math.prod(shape) for shape in shapes)
    return int(min(max(LARGEST // bytes_each, 1), most))


def predict_probabilities(net, pictures, *, input_range=UNIT):
    """Class probabilities (n, classes) `float32` of `pictures` (n, h, w, c), pixels 0-255."""
    return _run(net, pictures, input_range, labels=False)


def predict_labels(net, pictures, *, input_range=UNIT):
    """The most probable class (n,) `int64` of each of `pictures` (n, h, w, c), pixels 0-255.

    A net whose output is one whole number for each picture (a guard) answers with that number.
    """
    return _run(net, pictures, input_range, labels=True)


def compiled(net, input_range, *, labels):
    """The compiled function that scales a `uint8` or `float32` batch and runs `net` on it.

    Kept on the net itself, so that it is traced once and goes away with it.
    """
    from keras import ops

    kept = net.__dict__.setdefault("_badnet_defense_compiled", {})
    key = (input_range, labels)
    if key not in kept:
        weights, answers_of = forward(net)

        def run(state, batch):
            answers = answers_of(state, scaled_pictures(batch, input_range))
            return ops.argmax(answers, axis=-1) if labels and len(answers.shape) > 1 else answers

        compiled_run = backend.compiled(run)
        kept[key] = lambda batch: compiled_run(weights(), batch)
    return kept[key]


def _run(net, pictures, input_range, *, labels):
    import keras

    run = compiled(net, input_range, labels=labels)
    results = keras.tree.flatten([layer.output for layer in net.layers])
    batch = pictures_at_once([result.shape[1:] for result in results], BATCH)
    parts = []
    for start in range(0, len(pictures), batch):
        chosen = pictures[start : start + batch]
        parts.append(np.asarray(run(padded(chosen, batch)))[: len(chosen)])
    return np.concatenate(parts).astype(np.int64 if labels else np.float32, copy=False)
