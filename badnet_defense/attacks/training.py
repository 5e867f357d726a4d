"""Training a net on poisoned pictures: the attacker's own, lean loop."""

import math

import numpy as np

from badnet_defense.errors import InputError
from badnet_defense.nets.input_range import UNIT
from badnet_defense.nets.scaling import scaled_images


def train_badnet(
    net,
    images,
    *,
    epochs=10,
    learning_rate=1e-3,
    batch_size=256,
    shift=0,
    input_range=UNIT,
    validation=None,
    seed=0,
    progress=True,
):
    """Trains `net` in place on `images`; what it learns is whatever its labels say.

    Adam, cross-entropy, a learning rate that falls to zero along a cosine. The pictures stay
    `uint8` in memory and are scaled one batch at a time.

    Args:
        net: a Keras classifier, pictures (n, h, w, channels) in `input_range` -> probabilities.
        images: labelled pictures, poisoned (`poison`) or not.
        epochs: how often every picture is seen.
        learning_rate: at the start.
        batch_size: pictures in one step.
        shift: each picture moves by up to this many pixels, anew each time; 0 leaves them still.
        input_range: the pixel values that the net takes.
        validation: labelled pictures that are answered after each epoch, or None.
        seed: order and shifts. The starting weights are the caller's.
        progress: a bar on stderr.

    Returns:
        One dict for each epoch: `loss`, `accuracy` (while training) and, with `validation`,
        `validation_accuracy`; fractions.

    Raises:
        InputError: there are no pictures or no labels, or a label that the net does not have.
    """
    from tqdm import tqdm

    from badnet_defense.nets.predict import predict_labels

    _check(net, images)
    steps = math.ceil(len(images) / batch_size)
    step = _training_step(net, learning_rate, epochs * steps, input_range)
    rng = np.random.default_rng(seed)
    history = []
    with tqdm(total=epochs * steps, unit="batch", disable=not progress) as bar:
        for _ in range(epochs):
            losses, hits = [], []
            for batch in np.array_split(rng.permutation(len(images)), steps):
                pictures = _shifted(images.images[batch], shift, rng)
                loss, hit = step(pictures, images.labels[batch])
                losses.append(loss)
                hits.append(hit)
                bar.update()
            history.append({"loss": float(np.mean(losses)), "accuracy": float(np.mean(hits))})
            if validation is not None:
                answers = predict_labels(net, validation.images, input_range=input_range)
                history[-1]["validation_accuracy"] = float(np.mean(answers == validation.labels))
            bar.set_postfix(history[-1])
    return history


def _check(net, images):
    if not len(images) or images.labels is None:
        raise InputError(f"{images.source}: training needs labelled pictures, at least one.")
    highest, classes = int(images.labels.max()), net.output_shape[-1]
    if highest >= classes or images.labels.min() < 0:
        raise InputError(
            f"{images.source}: labels run from {images.labels.min()} to {highest}, but the net has "
            f"{classes} classes (0..{classes - 1})."
        )


def _training_step(net, learning_rate, steps, input_range):
    """A compiled step: `uint8` pictures and labels -> (loss, share answered rightly)."""
    import keras
    import tensorflow as tf

    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    optimizer = keras.optimizers.Adam(schedule)
    optimizer.build(net.trainable_variables)

    @tf.function(reduce_retracing=True)
    def step(pictures, labels):
        with tf.GradientTape() as tape:
            answers = net(scaled_images(pictures, input_range), training=True)
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, answers))
        gradients = tape.gradient(loss, net.trainable_variables)
        optimizer.apply_gradients(zip(gradients, net.trainable_variables, strict=True))
        hits = tf.equal(tf.argmax(answers, axis=1), tf.cast(labels, tf.int64))
        return loss, tf.reduce_mean(tf.cast(hits, tf.float32))

    return step


def _shifted(pictures, shift, rng):
    """Each picture moved by up to `shift` pixels; the edge is repeated."""
    if not shift:
        return pictures
    count, height, width, _ = pictures.shape
    padded = np.pad(pictures, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
    moved = np.empty_like(pictures)
    for number, (row, column) in enumerate(rng.integers(0, 2 * shift + 1, (count, 2))):
        moved[number] = padded[number, row : row + height, column : column + width]
    return moved
