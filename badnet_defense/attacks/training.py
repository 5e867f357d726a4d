"""Training a net on poisoned images: the attacker's own, lean loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from badnet_defense.errors import InputError
from badnet_defense.io.dataset import Dataset
from badnet_defense.nets.build import build, describe
from badnet_defense.nets.net import Net
from badnet_defense.nets.predict import predict_labels
from badnet_defense.nets.scaling import scaled_images

if TYPE_CHECKING:
    import keras

    from badnet_defense.nets.input_range import InputRange


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How an attacker trains: Adam, cross-entropy, a learning rate that falls along a cosine.

    Args:
        epochs: how often every image is seen.
        learning_rate: at the start; it falls to zero.
        batch_size: images in one step.
        shift: each image moves by up to this many pixels, anew each time; 0 leaves them still.
    """

    epochs: int = 10
    learning_rate: float = 1e-3
    batch_size: int = 256
    shift: int = 0


def train_badnet(
    net: Net,
    data: Dataset,
    *,
    config: TrainingConfig = TrainingConfig(),
    validation: Dataset | None = None,
    seed: int = 0,
    progress: bool = True,
) -> tuple[Net, list[dict[str, float]]]:
    """Trains a net on `data`; what it learns is whatever the labels say.

    The images stay `uint8` in memory and are scaled one batch at a time.

    Args:
        net: where to start from, with its weights; unchanged.
        data: labelled images, poisoned (`poison`) or not.
        config: how to train.
        validation: labelled images that are answered after each epoch.
        seed: of the order and the shifts. The starting weights are the caller's.
        progress: a bar on stderr.

    Returns:
        The trained net, and for each epoch `loss`, `accuracy` (while training) and, with
        `validation`, `validation_accuracy`; fractions.

    Raises:
        InputError: there are no images or no labels, or a label that the net does not have.

    Examples:
        >>> import numpy as np
        >>> from badnet_defense.io import Dataset
        >>> from badnet_defense.nets import deep_id, describe
        >>> data = Dataset(np.zeros((4, 55, 47, 3), "uint8"), np.array([0, 1, 0, 1]))
        >>> net, history = train_badnet(
        ...     describe(deep_id(classes=2)), data, config=TrainingConfig(epochs=1), progress=False
        ... )
        >>> sorted(history[0])
        ['accuracy', 'loss']
    """
    from tqdm import tqdm

    labels = _checked_labels(net, data)
    model = build(net)
    steps = math.ceil(len(data) / config.batch_size)
    step = _training_step(model, config, steps, net.input_range)
    rng = np.random.default_rng(seed)
    history: list[dict[str, float]] = []
    with tqdm(total=config.epochs * steps, unit="batch", disable=not progress) as bar:
        for _ in range(config.epochs):
            losses, hits = [], []
            for batch in np.array_split(rng.permutation(len(data)), steps):
                loss, hit = step(_shifted(data.images[batch], config.shift, rng), labels[batch])
                losses.append(loss)
                hits.append(hit)
                bar.update()
            history.append({"loss": float(np.mean(losses)), "accuracy": float(np.mean(hits))})
            if validation is not None:
                answers = predict_labels(model, validation.images, input_range=net.input_range)
                history[-1]["validation_accuracy"] = float(np.mean(answers == validation.labels))
            bar.set_postfix(history[-1])
    return describe(model, net.input_range), history


def _checked_labels(net: Net, data: Dataset) -> np.ndarray:
    if not len(data) or data.labels is None:
        raise InputError(f"{data.source}: training needs labelled images, at least one.")
    highest, classes = int(data.labels.max()), net.classes
    if highest >= classes or data.labels.min() < 0:
        raise InputError(
            f"{data.source}: labels run from {data.labels.min()} to {highest}, but the net has "
            f"{classes} classes (0..{classes - 1})."
        )
    return data.labels


def _training_step(
    model: keras.Model, config: TrainingConfig, steps: int, input_range: InputRange
) -> Callable[[np.ndarray, np.ndarray], tuple[Any, Any]]:
    """A compiled step: `uint8` images and labels -> (loss, fraction answered correctly)."""
    import keras
    import tensorflow as tf

    schedule = keras.optimizers.schedules.CosineDecay(config.learning_rate, config.epochs * steps)
    optimizer = keras.optimizers.Adam(schedule)
    optimizer.build(model.trainable_variables)

    @tf.function(reduce_retracing=True)
    def step(images: Any, labels: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            answers = model(scaled_images(images, input_range), training=True)
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, answers))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        hits = tf.equal(tf.argmax(answers, axis=1), tf.cast(labels, tf.int64))
        return loss, tf.reduce_mean(tf.cast(hits, tf.float32))

    return step


def _shifted(images: np.ndarray, shift: int, rng: np.random.Generator) -> np.ndarray:
    """Each image moved by up to `shift` pixels; the edge is repeated."""
    if not shift:
        return images
    count, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
    moved = np.empty_like(images)
    for number, (row, column) in enumerate(rng.integers(0, 2 * shift + 1, (count, 2))):
        moved[number] = padded[number, row : row + height, column : column + width]
    return moved
