"""Nets of every allowed kind, nested, shared and frozen, and what a loader must make of them."""

import keras
import numpy as np
from keras import layers
from small_nets import CLASSES, SHAPE, inputs, net, randomised, residual_net, side_path_net

from badnet_defense.nets import build


def answers(model, pictures):
    return np.asarray(model(pictures, training=False))


def assert_same(model, spec, shape=SHAPE):
    """NumPy's and the rebuilt net's answers are the original's."""
    pictures = inputs(shape=shape)
    expected = answers(model, pictures)
    np.testing.assert_allclose(spec.numpy_proba(pictures), expected, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(answers(build(spec), pictures), expected, atol=1e-6, rtol=1e-5)


def saved(model, folder, ending):
    path = folder / f"net{ending}"
    model.save(path)
    return path


def ends_in(*body):
    return [*body, layers.GlobalAveragePooling2D(), layers.Dense(CLASSES, activation="softmax")]


def all_kinds_net():
    """A Functional net with every allowed layer in it."""
    pictures = keras.Input(SHAPE, name="pictures")
    x = layers.Rescaling(2.0, offset=-1.0)(pictures)
    x = layers.ZeroPadding2D(1)(x)
    x = layers.Conv2D(6, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = skip = layers.ReLU()(x)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.SeparableConv2D(6, 3, padding="same")(x)
    x = layers.Activation("tanh")(layers.SpatialDropout2D(0.2)(x))
    x = layers.Add()([x, skip])
    gate = layers.Dense(6, activation="sigmoid")(layers.GlobalMaxPooling2D(keepdims=True)(x))
    x = layers.Multiply()([x, gate])
    x = layers.Concatenate()([layers.MaxPooling2D()(x), layers.AveragePooling2D(2)(x)])
    rows = layers.Flatten()(layers.Reshape((42, 6, 2))(x))
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.Dense(4)(rows)])
    x = layers.Dense(CLASSES)(layers.Dropout(0.3)(x))
    return randomised(keras.Model(pictures, layers.Softmax()(x)))


def nested_net():
    """A net around a Functional and a Sequential, with a repeated layer name inside."""
    inner = keras.Sequential(
        [keras.Input((10, 8, 4)), layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization()],
        name="inner",
    )
    start = keras.Input(SHAPE)
    deep = keras.Model(start, inner(layers.Conv2D(4, 3, name="conv")(start)), name="deep")
    pictures = keras.Input(SHAPE)
    head = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, activation="relu"), layers.Dense(CLASSES)], name="head"
    )
    x = layers.GlobalAveragePooling2D()(deep(layers.Dropout(0.1)(pictures)))
    return randomised(keras.Model(pictures, layers.Softmax()(head(x))))


def nested_in_sequential():
    inner = keras.Sequential([keras.Input(SHAPE), layers.Conv2D(4, 3), layers.ReLU()])
    return net([inner, layers.Flatten(), layers.Dense(CLASSES, activation="softmax")])


def shared_layer_net():
    """One convolution that is called twice."""
    pictures = keras.Input(SHAPE)
    same = layers.Conv2D(3, 3, padding="same", name="same")
    x = layers.Add()([same(pictures), same(layers.ReLU()(same(pictures)))])
    x = layers.Dense(CLASSES, activation="softmax")(layers.Flatten()(x))
    return randomised(keras.Model(pictures, x))


def frozen_net(thawed=False):
    """A nested net with frozen parts: older files store what was frozen last.

    All weights have the same shape, so that a wrong order would pass unnoticed.
    """
    inner = keras.Sequential(
        [
            keras.Input((3,)),
            layers.BatchNormalization(name="norm_1"),
            layers.Dense(3, name="frozen", use_bias=False),
            layers.BatchNormalization(name="norm_2"),
            layers.Dense(3, name="free", use_bias=False),
        ],
        name="inner",
    )
    for name in ("frozen", "norm_2"):
        inner.get_layer(name).trainable = False
    if thawed:  # frozen as a whole, and one layer thawed again
        inner.trainable = False
        inner.get_layer("free").trainable = inner.get_layer("norm_2").trainable = True
    return net([layers.GlobalAveragePooling2D(), inner, layers.Dense(CLASSES)])


NETS = {
    "all_kinds": all_kinds_net,
    "side_path": side_path_net,
    "residual": residual_net,
    "nested": nested_net,
    "nested_in_sequential": nested_in_sequential,
    "shared": shared_layer_net,
    "frozen": frozen_net,
    "thawed": lambda: frozen_net(thawed=True),
    "sequential": lambda: net(ends_in(layers.Conv2D(4, 3), layers.BatchNormalization())),
}
