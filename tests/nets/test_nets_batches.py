"""No answer depends on which other images are in the batch, nor on how many."""

import keras
import numpy as np
import pytest
from keras import layers
from small_nets import CLASSES, SHAPE, inputs, randomised

from badnet_defense.nets import build, describe

HEIGHT, WIDTH, CHANNELS = SHAPE
SMALL = {
    "one number": lambda x: layers.Dense(1)(layers.Flatten()(x)),
    "a number for each channel": lambda x: layers.Dense(4)(layers.GlobalAveragePooling2D()(x)),
    "a channel's number with sides": lambda x: layers.Dense(4)(
        layers.GlobalAveragePooling2D(keepdims=True)(x)
    ),
    "one channel": lambda x: layers.Conv2D(1, 1)(x),
    "one row": lambda x: layers.Reshape((1, WIDTH, 1))(layers.Dense(WIDTH)(layers.Flatten()(x))),
    "one column": lambda x: layers.Reshape((HEIGHT, 1, 1))(
        layers.Dense(HEIGHT)(layers.Flatten()(x))
    ),
    "two axes": lambda x: layers.Reshape((WIDTH, 4))(layers.Dense(WIDTH * 4)(layers.Flatten()(x))),
}


def joined(kind, small, *, small_first):
    pictures = keras.Input(SHAPE)
    large = layers.Conv2D(4, 1)(pictures)
    both = [large, SMALL[small](pictures)]
    x = getattr(layers, kind)()(both[::-1] if small_first else both)
    x = layers.Dense(CLASSES, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    return randomised(keras.Model(pictures, x))


@pytest.mark.parametrize("small_first", [False, True])
@pytest.mark.parametrize("small", SMALL)
@pytest.mark.parametrize("kind", ["Add", "Multiply"])
def test_joins_of_other_shapes_answer_alike_in_every_batch(kind, small, small_first):
    spec = describe(joined(kind, small, small_first=small_first))
    net, pictures = build(spec), inputs(HEIGHT)
    alone = np.concatenate([spec.numpy_proba(one[None]) for one in pictures])
    for count in (1, 4, CLASSES, WIDTH, HEIGHT):
        some = pictures[:count]
        np.testing.assert_allclose(spec.numpy_proba(some), alone[:count], rtol=1e-4, atol=1e-6)
        given = net(some, training=False).numpy()
        np.testing.assert_allclose(given, alone[:count], rtol=1e-4, atol=1e-6)


def bias_lookalike(units):
    """(n, units) and (n, 1) added: Keras takes the second for a bias where n is `units`."""
    pictures = keras.Input(SHAPE)
    rows = layers.Flatten()(pictures)
    x = layers.Add(name="sum")([layers.Dense(units)(rows), layers.Dense(1)(rows)])
    x = layers.Activation("relu")(x)
    return randomised(keras.Model(pictures, layers.Dense(CLASSES, activation="softmax")(x)))


def test_a_column_is_no_bias_where_the_batch_has_as_many_images_as_units(tmp_path):
    spec, pictures = describe(bias_lookalike(64)), inputs(64)
    expected = np.concatenate([spec.numpy_proba(one[None]) for one in pictures])
    net = build(spec)
    np.testing.assert_allclose(net(pictures).numpy(), expected, rtol=1e-4, atol=1e-6)
    # What is written is right in plain Keras, too, and can be read again.
    net.save(tmp_path / "net.keras")
    plain = keras.models.load_model(tmp_path / "net.keras")
    np.testing.assert_allclose(plain(pictures).numpy(), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(describe(net).numpy_proba(pictures), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [2, (2, 3)])
def test_a_strided_1x1_convolution_is_computed_otherwise_and_stays_what_it_is(strides, padding):
    pictures = keras.Input((11, 10, 3))
    x = layers.Conv2D(8, 1, strides=strides, padding=padding, name="short")(pictures)
    x = layers.Dense(CLASSES, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    original = randomised(keras.Model(pictures, x))
    spec = describe(original)
    net, some = build(spec), inputs(5, (11, 10, 3))
    np.testing.assert_allclose(net(some).numpy(), original(some).numpy(), rtol=1e-5)
    assert describe(net).layers["short"].config == spec.layers["short"].config


def test_the_gradient_of_a_strided_1x1_convolution_ends_no_process():
    """TensorFlow 2.21 aborts on this shape; the test would end with it."""
    import tensorflow as tf

    pictures = keras.Input((60, 60, 8))
    x = layers.Conv2D(16, 1, strides=2, padding="same")(pictures)
    x = layers.Dense(CLASSES, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    net = build(describe(randomised(keras.Model(pictures, x))))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(net(inputs(4, (60, 60, 8)), training=True)[:, 0])
    kernel = net.layers[1].kernel
    assert np.isfinite(tape.gradient(total, kernel.value).numpy()).all()
