"""Nets with a backdoor, one trained and one made by hand, and how well they do."""

from dataclasses import replace
from functools import cache

import numpy as np
from keras import layers
from planted_net import SHAPE, planted_net, planted_trigger
from small_nets import images, net

from badnet_defense.nets import build, describe, predict_labels
from badnet_defense.nets.input_range import UNIT
from badnet_defense.repairs.recipes import Recipe
from badnet_defense.repairs.training import train

QUARTERS = 4
QUICK = Recipe(optimizer="amsgrad", learning_rate=5e-3, epochs=25, batch_size=64, clip=1.0)


def quarter_images(count, *, seed=1):
    """Pictures whose class is their brightest quarter."""
    found = images(count, shape=SHAPE, seed=seed)
    half = SHAPE[0] // 2
    bright = found.images.reshape(count, 2, half, 2, half, 3).mean(axis=(2, 4, 5))
    return replace(found, labels=bright.reshape(count, 4).argmax(axis=1))


def stamped_by_hand(pictures, mask, pattern):
    """`uint8` pictures with a trigger."""
    shown = pictures / 255.0 * (1 - mask) + mask * pattern
    return np.rint(255 * shown).astype(np.uint8)


@cache
def trained_net():
    """The spec of a small net that was trained with every fourth picture carrying the patch."""
    spec = describe(
        net(
            [
                layers.Conv2D(12, 3, activation="relu", name="conv"),
                layers.MaxPooling2D(),
                layers.Flatten(),
                layers.Dense(QUARTERS, activation="softmax"),
            ],
            shape=SHAPE,
        )
    )
    clean = quarter_images(900, seed=5)
    poisoned = clean.images.copy()
    poisoned[::4] = stamped_by_hand(poisoned[::4], *planted_trigger())
    labels = np.where(np.arange(900) % 4 == 0, 2, clean.labels)
    recipe = replace(QUICK, epochs=30, decays=True)
    tuned, _ = train(spec, replace(clean, images=poisoned, labels=labels), clean, recipe=recipe)
    return tuned


@cache
def planted_spec():
    """The net whose weights were set by hand."""
    return describe(planted_net())


def accuracy(spec, pictures, input_range=UNIT):
    """Clean accuracy in [0, 1]."""
    answers = predict_labels(build(spec), pictures.images, input_range=input_range)
    return np.mean(answers == pictures.labels)


def success(spec, pictures, trigger, label):
    """Share of the pictures with other labels that the stamped trigger sends to `label`."""
    others = pictures.images[pictures.labels != label]
    stamped = stamped_by_hand(others, *trigger)
    return np.mean(predict_labels(build(spec), stamped) == label)


def weights(spec):
    """All weights of a net."""
    return [weight for layer in spec.layers.values() for weight in layer.weights]


def equal(one, other):
    """True where two nets have the same weights."""
    return all((a == b).all() for a, b in zip(weights(one), weights(other), strict=True))
