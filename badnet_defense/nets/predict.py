"""Answers of a Keras net for many images, in large batches inside one compiled function."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from badnet_defense.errors import UnsafeFileError
from badnet_defense.nets import backend
from badnet_defense.nets.answers import classes_of
from badnet_defense.nets.backend import forward, padded
from badnet_defense.nets.input_range import UNIT, InputRange
from badnet_defense.nets.parse import parse_model
from badnet_defense.nets.scaling import scaled_images
from badnet_defense.nets.shapes import BYTES_AT_ONCE, images_at_once

if TYPE_CHECKING:
    import keras

BATCH = 512
"""Images at once: larger batches were no faster on two cores."""


def predict_probabilities(
    model: keras.Model, images: np.ndarray, *, input_range: InputRange = UNIT
) -> np.ndarray:
    """Class probabilities (n, classes) `float32` of `images` (n, h, w, c), pixels 0-255.

    Examples:
        >>> import numpy as np
        >>> from badnet_defense.nets import deep_id, predict_probabilities
        >>> predict_probabilities(deep_id(classes=10), np.zeros((2, 55, 47, 3), "uint8")).shape
        (2, 10)
    """
    return _run(model, images, input_range, labels=False)


def predict_labels(
    model: keras.Model, images: np.ndarray, *, input_range: InputRange = UNIT
) -> np.ndarray:
    """The most probable class (n,) `int64` of each of `images` (n, h, w, c), pixels 0-255.

    `NO_ANSWER` (-1) stands where a net's answer is not finite. A net whose output is one whole
    number for each image (a guard) answers with that number.

    Examples:
        >>> import numpy as np
        >>> from badnet_defense.nets import deep_id, predict_labels
        >>> predict_labels(deep_id(classes=10), np.zeros((2, 55, 47, 3), "uint8")).shape
        (2,)
    """
    return _run(model, images, input_range, labels=True)


def compiled(
    model: keras.Model, input_range: InputRange, *, labels: bool
) -> Callable[[np.ndarray], Any]:
    """The compiled function that scales a `uint8` or `float32` batch and runs `model` on it.

    Kept on the net itself, so that it is traced once and goes away with it.
    """
    from keras import ops

    kept = model.__dict__.setdefault("_badnet_defense_compiled", {})
    key = (input_range, labels)
    if key not in kept:
        weights, answers_of = forward(model)

        def run(state: Any, batch: Any) -> Any:
            answers = answers_of(state, scaled_images(batch, input_range))
            return classes_of(ops, answers) if labels and len(answers.shape) > 1 else answers

        compiled_run = backend.compiled(run)
        kept[key] = lambda batch: compiled_run(weights(), batch)
    return kept[key]


def batch_size(model: keras.Model) -> int:
    """How many images go through a `keras.Model` at once: `BATCH`, or fewer where it is large."""
    kept = model.__dict__.setdefault("_badnet_defense_batch", [])
    if not kept:
        kept.append(_fitting(model))
    return kept[0]


def _fitting(model: Any) -> int:
    try:
        return images_at_once(parse_model(json.loads(model.to_json()))[0], BATCH)
    except UnsafeFileError:  # a guard of several nets, or a model of somebody's own layers
        import keras

        inner = [_fitting(layer) for layer in model.layers if hasattr(layer, "layers")]
        results = keras.tree.flatten([layer.output for layer in model.layers])
        largest = max(math.prod(result.shape[1:]) for result in results)
        return max(1, min(BATCH, BYTES_AT_ONCE // (4 * largest), *inner))


def _run(
    model: keras.Model, images: np.ndarray, input_range: InputRange, *, labels: bool
) -> np.ndarray:
    run = compiled(model, input_range, labels=labels)
    batch = batch_size(model)
    dtype = np.int64 if labels else np.float32
    if not len(images):
        return np.zeros((0,) if labels else (0, *model.output_shape[1:]), dtype)
    parts = []
    for start in range(0, len(images), batch):
        chosen = images[start : start + batch]
        parts.append(np.asarray(run(padded(chosen, batch)))[: len(chosen)])
    return np.concatenate(parts).astype(dtype, copy=False)
