"""Small Keras nets with seeded random weights, and labelled pictures for them."""

import numpy as np

SHAPE = (12, 10, 3)
CLASSES = 5


def randomised(model, seed=0):
    """`model` with new weights everywhere; moving variances stay positive."""
    rng = np.random.default_rng(seed)
    weights = []
    for variable in model.weights:
        values = rng.normal(0, 0.4, variable.shape)
        positive = "variance" in variable.path or "gamma" in variable.path
        weights.append(np.abs(values) + 0.3 if positive else values)
    model.set_weights(weights)
    return model


def balanced(model, pictures):
    """`model` with the last layer's biases such that all classes are answered now and then."""
    from badnet_defense.nets import build, describe
    from badnet_defense.nets.graph import without_softmax

    logits = build(without_softmax(describe(model)))(pictures, training=False).numpy()
    last = [layer for layer in model.layers if layer.weights][-1]
    *kernels, bias = last.get_weights()
    last.set_weights([*kernels, bias - logits.mean(axis=0)])
    return model


def net(layers, *, shape=SHAPE, seed=0):
    """A Sequential of `layers` with random weights."""
    import keras

    return randomised(keras.Sequential([keras.Input(shape, name="pictures"), *layers]), seed)


def inputs(count=6, shape=SHAPE, seed=1):
    """`float32` pictures in [0, 1] as nets take them."""
    return np.random.default_rng(seed).random((count, *shape), dtype=np.float32)


def images(count=40, *, shape=SHAPE, classes=CLASSES, seed=1):
    """`Dataset`, `uint8`, with random labels.

    Each picture has its own four coloured quarters under noise, so that a net with random weights
    answers with several classes.
    """
    from badnet_defense.io import Dataset

    rng = np.random.default_rng(seed)
    height, width, channels = shape
    quarters = rng.integers(0, 256, (count, 2, 2, channels)).repeat(-(-height // 2), axis=1)
    quarters = quarters.repeat(-(-width // 2), axis=2)[:, :height, :width]
    noise = rng.integers(-60, 61, (count, *shape))
    pictures = np.clip(quarters + noise, 0, 255).astype(np.uint8)
    return Dataset(pictures, rng.integers(0, classes, count))


def side_path_net(*, names=("conv_1", "conv_2", "conv_3", "conv_4"), seed=0):
    """DeepID in small: the last but one convolution feeds both a dense layer and a convolution."""
    import keras
    from keras import layers

    pictures = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3, activation="relu", name=names[0])(pictures)
    x = layers.Conv2D(5, 2, activation="relu", name=names[1])(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(6, 2, activation="relu", name=names[2])(x)
    deeper = layers.Conv2D(7, 2, activation="relu", name=names[3])(x)
    fc_1 = layers.Dense(8, name="fc_1")(layers.Flatten()(x))
    fc_2 = layers.Dense(8, name="fc_2")(layers.Flatten()(deeper))
    joined = layers.Activation("relu")(layers.Add()([fc_1, fc_2]))
    output = layers.Dense(CLASSES, activation="softmax", name="output")(joined)
    return randomised(keras.Model(pictures, output), seed)


def residual_net(seed=0):
    """Convolution, batch normalisation and ReLU, with a sum that goes around them."""
    import keras
    from keras import layers

    pictures = keras.Input(SHAPE)
    stem = layers.Conv2D(6, 3, padding="same", activation="relu", name="stem")(pictures)
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="inner")(stem)
    x = layers.BatchNormalization(name="inner_norm")(x)
    x = layers.ReLU()(layers.Add()([x, stem]))
    x = layers.Dense(CLASSES, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    return randomised(keras.Model(pictures, x), seed)
