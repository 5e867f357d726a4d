"""What the last layer's weights say, against sums worked out by hand."""

import keras
import numpy as np
import pytest
from keras import layers

from badnet_defense.nets import describe
from badnet_defense.scan.weight_signature import weight_sums

KERNEL = np.array([[1, -2, 4], [0.5, 1, -8]])


def net_ending_in(*ends):
    pictures = keras.Input((4, 4, 2), name="pictures")
    x = layers.GlobalAveragePooling2D(name="means")(pictures)
    for end in ends:
        x = end(x)
    model = keras.Model(pictures, x)
    for layer in model.layers:
        if layer.name == "logits":
            layer.set_weights([KERNEL.reshape(layer.get_weights()[0].shape), np.full(3, 100)])
    return describe(model)


@pytest.mark.parametrize(
    "ends",
    [
        [layers.Dense(3, name="logits")],
        [layers.Dense(3, activation="softmax", name="logits")],
        [layers.Dense(3, name="logits"), layers.Softmax(name="answers")],
        [layers.Dense(3, name="logits"), layers.Activation("softmax", name="answers")],
    ],
)
def test_sums_of_a_dense_layer_without_its_biases(ends):
    assert weight_sums(net_ending_in(*ends)).tolist() == [1.5, -1, -4]


@pytest.mark.parametrize(
    "ends",
    [
        [layers.Dense(3, activation="relu", name="logits")],
        [layers.Dense(3, name="logits"), layers.BatchNormalization(name="norm")],
        [
            layers.Reshape((1, 1, 2), name="map"),
            layers.Conv2D(3, 1, name="logits"),
            layers.Flatten(name="flat"),
        ],
    ],
)
def test_other_ends_have_no_signature(ends):
    assert weight_sums(net_ending_in(*ends)) is None
