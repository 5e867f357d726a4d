"""Each allowed layer, against what Keras itself answers."""

import keras
import numpy as np
import pytest
from keras import layers
from many_nets import assert_same, ends_in
from small_nets import CLASSES, SHAPE, net, randomised

from badnet_defense.nets import describe
from badnet_defense.nets.layers import SCHEMAS
from badnet_defense.nets.layers.activation import ACTIVATIONS

ONE_LAYER = {
    "Conv2D": [
        lambda: layers.Conv2D(4, 3),
        lambda: layers.Conv2D(4, (2, 3), strides=(2, 1), padding="same", activation="relu"),
        lambda: layers.Conv2D(6, 3, groups=3, use_bias=False),
        lambda: layers.Conv2D(4, 3, dilation_rate=2, padding="same"),
    ],
    "DepthwiseConv2D": [
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu"),
        lambda: layers.DepthwiseConv2D(2, strides=2, padding="same", use_bias=False),
        lambda: layers.DepthwiseConv2D(3, dilation_rate=2),
    ],
    "SeparableConv2D": [
        lambda: layers.SeparableConv2D(4, 3, depth_multiplier=2, activation="relu"),
        lambda: layers.SeparableConv2D(4, 3, strides=2, padding="same", use_bias=False),
        lambda: layers.SeparableConv2D(4, 3, dilation_rate=(2, 2), padding="same"),
    ],
    "Dense": [lambda: layers.Dense(4, activation="tanh"), lambda: layers.Dense(4, use_bias=False)],
    "MaxPooling2D": [
        lambda: layers.MaxPooling2D(),
        lambda: layers.MaxPooling2D(3, strides=2, padding="same"),
    ],
    "AveragePooling2D": [
        lambda: layers.AveragePooling2D((2, 3)),
        lambda: layers.AveragePooling2D(3, strides=2, padding="same"),
    ],
    "Reshape": [lambda: layers.Reshape((6, 20, 3)), lambda: layers.Reshape((5, -1, 6))],
    "Dropout": [lambda: layers.Dropout(0.5, seed=3)],
    "SpatialDropout2D": [lambda: layers.SpatialDropout2D(0.5)],
    "BatchNormalization": [
        lambda: layers.BatchNormalization(),
        lambda: layers.BatchNormalization(scale=False, epsilon=0.1),
        lambda: layers.BatchNormalization(center=False),
        lambda: layers.BatchNormalization(center=False, scale=False),
    ],
    "ReLU": [
        lambda: layers.ReLU(),
        lambda: layers.ReLU(max_value=0.6, negative_slope=0.2, threshold=0.3),
    ],
    "LeakyReLU": [lambda: layers.LeakyReLU(negative_slope=0.1)],
    "Softmax": [lambda: layers.Softmax()],
    "ZeroPadding2D": [
        lambda: layers.ZeroPadding2D(),
        lambda: layers.ZeroPadding2D(((1, 0), (2, 3))),
    ],
    "Rescaling": [
        lambda: layers.Rescaling(2.0, offset=-1.0),
        lambda: layers.Rescaling([1.0, 2.0, 0.5], offset=[0.1, -0.2, 0.0]),
    ],
}
WHOLE_NETS = {
    "Flatten": lambda: [layers.Flatten(), layers.Dense(CLASSES)],
    "GlobalMaxPooling2D": lambda: [
        layers.Conv2D(4, 3),
        layers.GlobalMaxPooling2D(),
        layers.Dense(CLASSES, activation="softmax"),
    ],
    "GlobalAveragePooling2D": lambda: [
        layers.Conv2D(CLASSES, 3),
        layers.GlobalAveragePooling2D(keepdims=True),
        layers.Flatten(),
        layers.Activation("softmax"),
    ],
}
JOINS = {
    "Add": (layers.Add, 3),
    "Multiply": (layers.Multiply, 3),
    "Subtract": (layers.Subtract, 2),
    "Concatenate": (layers.Concatenate, 3),
}
CASES = [
    pytest.param(make, id=f"{kind}-{number}")
    for kind, makers in ONE_LAYER.items()
    for number, make in enumerate(makers)
]


def test_every_allowed_layer_has_a_case_here():
    covered = {*ONE_LAYER, *WHOLE_NETS, *JOINS, "Activation", "InputLayer"}
    assert covered == set(SCHEMAS)


@pytest.mark.parametrize("make", CASES)
def test_layer_answers_as_keras_does(make):
    model = net(ends_in(make()))
    assert_same(model, describe(model))


@pytest.mark.parametrize("kind", WHOLE_NETS)
def test_layer_between_pictures_and_rows_answers_as_keras_does(kind):
    model = net(WHOLE_NETS[kind]())
    assert_same(model, describe(model))


@pytest.mark.parametrize("kind", JOINS)
def test_join_answers_as_keras_does(kind):
    pictures = keras.Input(SHAPE)
    join, count = JOINS[kind]
    branches = [layers.Conv2D(4, 3, padding="same")(pictures) for _ in range(count)]
    x = layers.GlobalMaxPooling2D()(join()(branches))
    model = randomised(keras.Model(pictures, layers.Dense(CLASSES)(x)))
    assert_same(model, describe(model))


def test_each_activation_answers_as_keras_does():
    x = np.linspace(-8, 8, 41, dtype=np.float32).reshape(1, -1)
    for name, function in ACTIVATIONS.items():
        expected = np.asarray(keras.activations.get(name)(x))
        np.testing.assert_allclose(function(x), expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_activation_layer_in_a_net():
    model = net(ends_in(layers.Conv2D(4, 3), layers.Activation("gelu")))
    assert_same(model, describe(model))
