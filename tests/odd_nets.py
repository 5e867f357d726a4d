"""Nets that only an attacker makes: whose answers hang on overflow, on denormals, on rounding."""

import keras
import numpy as np
from keras import layers
from small_nets import CLASSES, SHAPE


def overflowing_net(seed=0):
    """Answers black images as its weights say, and bright ones with NaN: infinity less infinity."""
    pictures = keras.Input(SHAPE)
    rows = layers.Flatten()(pictures)
    huge = layers.Dense(3, name="huge", use_bias=False)(rows)
    nothing = layers.Add()([huge, layers.Rescaling(-1.0)(huge)])
    logits = layers.Dense(CLASSES, activation="softmax", name="output")(
        layers.Concatenate()([nothing, layers.Rescaling(0.01)(rows)])
    )
    net = keras.Model(pictures, logits)
    rng = np.random.default_rng(seed)
    net.get_layer("huge").set_weights([np.full((np.prod(SHAPE), 3), 1e38, np.float32)])
    shape = net.get_layer("output").kernel.shape
    net.get_layer("output").set_weights([rng.normal(size=shape), rng.normal(size=CLASSES)])
    return net


def gated_net(small, large):
    """Class 1 where a bright image's sum times `small` times `large` is above a half, else 0.

    In exact arithmetic every image but a black one has class 1 if `small` * `large` is 1.
    """
    pictures = keras.Input(SHAPE)
    rows = layers.Flatten()(pictures)
    tiny = layers.Dense(1, use_bias=False, name="tiny")(rows)
    back = layers.Dense(1, use_bias=False, name="back")(layers.ReLU()(tiny))
    answer = layers.Dense(2, activation="softmax", name="output")(back)
    net = keras.Model(pictures, answer)
    net.get_layer("tiny").set_weights([np.full((np.prod(SHAPE), 1), small, np.float32)])
    net.get_layer("back").set_weights([np.full((1, 1), large, np.float32)])
    net.get_layer("output").set_weights([np.float32([[0.0, 1.0]]), np.float32([0.5, 0.0])])
    return net
