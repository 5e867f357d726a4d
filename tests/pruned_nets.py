"""Nets in which a layer's channels reach the output by different ways."""

import keras
from keras import layers
from small_nets import (
    CLASSES,
    SHAPE,
    net,
    randomised,
    residual_net,
    side_path_net,
)


def flat_net():
    return net(
        [
            layers.Conv2D(6, 3, activation="relu", name="conv"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(9, activation="relu"),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def normalised_net():
    return net(
        [
            layers.Conv2D(6, 3, use_bias=False, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def depthwise_net():
    return net(
        [
            layers.Conv2D(4, 3, strides=2, activation="relu"),
            layers.DepthwiseConv2D(2, depth_multiplier=2, activation="relu", name="conv"),
            layers.Flatten(),
            layers.Dense(CLASSES),
            layers.Softmax(),
        ]
    )


def separable_net():
    return net(
        [
            layers.SeparableConv2D(6, 3, activation="tanh", name="conv"),
            layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def last_convolution_net():
    """Each class has its channel of the last convolution: no dense layer follows."""
    return net(
        [
            layers.Conv2D(6, 3, activation="relu", name="conv"),
            layers.Conv2D(CLASSES, 3),
            layers.GlobalAveragePooling2D(),
            layers.Activation("softmax"),
        ]
    )


def grouped_net():
    """The next layer takes the channels in, but not as a plain convolution: no shortcut."""
    return net(
        [
            layers.Conv2D(6, 3, activation="relu", name="conv"),
            layers.Conv2D(6, 2, groups=3, activation="relu"),
            layers.Flatten(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def forked_net():
    """Two convolutions take the layer in, and the pictures also go around it."""
    pictures = keras.Input(SHAPE)
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="conv")(pictures)
    a = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    b = layers.Conv2D(4, 1, activation="sigmoid")(x)
    x = layers.Concatenate()([layers.Multiply()([a, b]), pictures])
    x = layers.Dense(CLASSES, activation="softmax")(layers.Flatten()(x))
    return randomised(keras.Model(pictures, x))


NETS = {
    "side_path": (side_path_net, "conv_3"),
    "side_path_first": (side_path_net, "conv_1"),
    "side_path_only": (side_path_net, "conv_4"),
    "flatten_dense": (flat_net, "conv"),
    "normalised": (normalised_net, "conv"),
    "residual": (residual_net, "inner"),
    "residual_stem": (residual_net, "stem"),
    "depthwise": (depthwise_net, "conv"),
    "separable": (separable_net, "conv"),
    "last_convolution": (last_convolution_net, "conv"),
    "grouped": (grouped_net, "conv"),
    "forked": (forked_net, "conv"),
}
