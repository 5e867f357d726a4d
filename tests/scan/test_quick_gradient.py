"""The quicker gradient of the first convolution, against TensorFlow's own."""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tensorflow.python.framework.func_graph import FuncGraph

from badnet_defense.scan.quick_gradient import quicken


def net_with(first, shape=(11, 8, 3)):
    keras.utils.set_random_seed(0)
    rest = [layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(4)]
    return keras.Sequential([keras.Input(shape), first, *rest])


def gradient(net, pictures):
    """Traced anew with every call."""
    return tf.function(traced)(net, pictures).numpy()


def traced(net, pictures):
    with tf.GradientTape() as tape:
        tape.watch(pictures)
        loss = tf.reduce_sum(net(pictures, training=False) ** 2)
    return tape.gradient(loss, pictures)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("kernel", [(4, 4), (3, 3), (1, 1), (5, 2), (2, 3)])
@pytest.mark.parametrize("shape", [(11, 8, 3), (8, 9, 1), (10, 10, 4)])
def test_answers_and_gradients_stay(padding, kernel, shape):
    first = layers.Conv2D(6, kernel, padding=padding, activation="softplus")
    net = net_with(first, shape)
    pictures = tf.random.stateless_normal((5, *shape), (1, 2))
    answers, expected = net(pictures).numpy(), gradient(net, pictures)
    assert quicken(net) is net and "convolution_op" in vars(first)
    np.testing.assert_allclose(net(pictures), answers, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient(net, pictures), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "first",
    [
        layers.Conv2D(6, 3, strides=2),
        layers.Conv2D(6, 3, dilation_rate=2),
        layers.Conv2D(6, 3, groups=3),
        layers.DepthwiseConv2D(3),
        layers.BatchNormalization(),
    ],
)
def test_other_first_layers_are_left_alone(first):
    net = quicken(net_with(first))
    assert not any("convolution_op" in vars(layer) for layer in net.layers)


def test_nets_that_are_gone_leave_no_graphs():
    """TensorFlow keeps what a gradient of its own has seen for as long as the process lives."""

    def graphs():
        gc.collect()
        return sum(isinstance(one, FuncGraph) for one in gc.get_objects())

    before = graphs()
    for _ in range(3):
        net = quicken(net_with(layers.Conv2D(6, 3)))
        gradient(net, tf.ones((2, 11, 8, 3)))
    del net
    assert graphs() == before


def test_a_convolution_of_many_channels_is_left_alone():
    first = layers.Conv2D(6, 3)
    quicken(net_with(first, (8, 8, 5)))
    assert "convolution_op" not in vars(first)
