"""Answers of a Keras net for many pictures, in large batches inside one compiled function."""

import json
import math

import numpy as np

from badnet_defense.errors import UnsafeFileError
from badnet_defense.nets import backend
from badnet_defense.nets.answers import classes_of
from badnet_defense.nets.backend import forward, padded
from badnet_defense.nets.input_range import UNIT
from badnet_defense.nets.parse import parse_model
from badnet_defense.nets.scaling import scaled_images
from badnet_defense.nets.shapes import BYTES_AT_ONCE, images_at_once

BATCH = 512
"""Pictures at once: larger batches were no faster on two cores."""


def predict_probabilities(net, pictures, *, input_range=UNIT):
    """Class probabilities (n, classes) `float32` of `pictures` (n, h, w, c), pixels 0-255."""
    return _run(net, pictures, input_range, labels=False)


def predict_labels(net, pictures, *, input_range=UNIT):
    """The most probable class (n,) `int64` of each of `pictures` (n, h, w, c), pixels 0-255.

    `NO_ANSWER` (-1) stands where a net's answer is not finite. A net whose output is one whole
    number for each picture (a guard) answers with that number.
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
            answers = answers_of(state, scaled_images(batch, input_range))
            return classes_of(ops, answers) if labels and len(answers.shape) > 1 else answers

        compiled_run = backend.compiled(run)
        kept[key] = lambda batch: compiled_run(weights(), batch)
    return kept[key]


def batch_size(net):
    """How many pictures go through a `keras.Model` at once: `BATCH`, or fewer where it is large."""
    kept = net.__dict__.setdefault("_badnet_defense_batch", [])
    if not kept:
        kept.append(_fitting(net))
    return kept[0]


def _fitting(net):
    try:
        return images_at_once(parse_model(json.loads(net.to_json()))[0], BATCH)
    except UnsafeFileError:  # a guard of several nets, or a model of somebody's own layers
        import keras

        inner = [_fitting(layer) for layer in net.layers if hasattr(layer, "layers")]
        results = keras.tree.flatten([layer.output for layer in net.layers])
        largest = max(math.prod(result.shape[1:]) for result in results)
        return max(1, min(BATCH, BYTES_AT_ONCE // (4 * largest), *inner))


def _run(net, pictures, input_range, *, labels):
    run = compiled(net, input_range, labels=labels)
    batch = batch_size(net)
    dtype = np.int64 if labels else np.float32
    if not len(pictures):
        return np.zeros((0,) if labels else (0, *net.output_shape[1:]), dtype)
    parts = []
    for start in range(0, len(pictures), batch):
        chosen = pictures[start : start + batch]
        parts.append(np.asarray(run(padded(chosen, batch)))[: len(chosen)])
    return np.concatenate(parts).astype(dtype, copy=False)
