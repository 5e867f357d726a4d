"""A small net with a backdoor planted by hand, its pictures, and short scans of it."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers
from small_nets import images

from badnet_defense.nets import predict_labels
from badnet_defense.nets.input_range import InputRange
from badnet_defense.scan.registry import SCAN_PASSES
from badnet_defense.scan.scan import ScanConfig, scan_images
from badnet_defense.scan.schedule import Rung
from badnet_defense.scan.trigger_inversion import InversionConfig

SHAPE = (12, 12, 3)
CLASSES, TARGET = 10, 7
PATCH = np.array([[[1, 0, 1], [0, 1, 0]], [[0, 1, 0], [1, 0, 1]]], np.float32)
"""The planted trigger: 2x2 pixels, magenta and green."""
SETTINGS = InversionConfig(patience=1000)
RUNGS = (Rung(25, 8, shift=0.1), Rung(40, 16, shift=0.1))


def planted_net(*, span=1.0, target=TARGET):
    """A net that answers by the colours of the quarters, and `target` wherever it sees the patch.

    All weights are set by hand but the colours' own, which are drawn, equally large for all
    classes. Of five channels the first finds the patch, three are local means of the colours, and
    the last is dead.

    Args:
        span: what the net takes for white; black is 0.
        target: None plants nothing.
    """
    pictures = keras.Input(SHAPE, name="pictures")
    x = layers.Conv2D(5, 2, activation="relu", name="conv")(pictures)
    quarters = layers.Flatten(name="rows")(layers.AveragePooling2D(5, name="quarters")(x))
    peaks = layers.GlobalMaxPooling2D(name="peaks")(x)
    by_colour = layers.Dense(CLASSES, name="by_colour")(quarters)
    by_patch = layers.Dense(CLASSES, use_bias=False, name="by_patch")(peaks)
    x = layers.Add(name="sum")([by_colour, by_patch])
    model = keras.Model(pictures, layers.Activation("softmax", name="answers")(x))
    kernel = np.zeros((2, 2, 3, 5), np.float32)
    kernel[..., 0] = 2 * PATCH - 1
    for colour in range(3):
        kernel[:, :, colour, 1 + colour] = 0.25
    model.get_layer("conv").set_weights([kernel / span, np.zeros(5)])
    colours = np.random.default_rng(0).normal(0, 1, (2, 2, 5, CLASSES))
    colours[:, :, [0, 4]] = 0
    colours *= 20 / np.sqrt((colours**2).sum(axis=(0, 1, 2)))
    alarm = np.zeros((5, CLASSES))
    if target is not None:
        alarm[0, target] = 6
    model.get_layer("by_patch").set_weights([alarm])
    model.get_layer("by_colour").set_weights([colours.reshape(20, CLASSES), np.zeros(CLASSES)])
    shown = images(200, shape=SHAPE).images / np.float32(255 / span)
    means = keras.Model(pictures, x)(shown).numpy().mean(axis=0)
    model.get_layer("by_colour").set_weights([colours.reshape(20, CLASSES), -means])
    return model


def masked_net():
    """The planted net behind steps that let no gradient through, and are near to nothing else."""
    pictures = keras.Input(SHAPE)
    x = layers.Rescaling(1e4, offset=-5e3)(pictures)
    x = layers.Rescaling(0.5, offset=0.5)(layers.Activation("tanh")(x))
    return keras.Model(pictures, planted_net()(x))


def clean_images(count=200, *, seed=1, span=1.0):
    """Pictures with the planted net's own answers as labels."""
    found = images(count, shape=SHAPE, seed=seed)
    answers = predict_labels(planted_net(span=span), found.images, input_range=InputRange(0, span))
    return replace(found, labels=answers)


def planted_trigger(opacity=1.0, place=(4, 6)):
    """(mask, pattern) of the planted trigger."""
    mask, pattern = np.zeros((*SHAPE[:2], 1), np.float32), np.zeros(SHAPE, np.float32)
    rows, columns = (slice(start, start + 2) for start in place)
    mask[rows, columns], pattern[rows, columns] = opacity, PATCH
    return mask, pattern


def plain_success(model, pictures, mask, pattern, label):
    """Share of the pictures of other classes that answer with the label once they are stamped."""
    clean = pictures / np.float32(255)
    others = clean[model(clean).numpy().argmax(axis=1) != label]
    stamped = np.stack([one * (1 - mask) + mask * pattern for one in others])
    return np.mean(model(stamped).numpy().argmax(axis=1) == label)


def short_rungs(patch, rungs=RUNGS):
    """Both inversion passes take these rungs, the smooth one the last of them."""
    for name, own in (("sharp", rungs[:-1]), ("smooth", rungs[-1:])):
        method = replace(SCAN_PASSES[name], run=lambda budget, config, own=own: own)
        patch.setitem(SCAN_PASSES._methods, name, method)


def scanned(net, pictures, *, rungs=RUNGS, labels=None, inversion=SETTINGS, **settings):
    """A scan with short rungs."""
    labels = None if labels is None else tuple(labels)
    with pytest.MonkeyPatch.context() as patch:
        short_rungs(patch, rungs)
        config = ScanConfig(labels=labels, inversion=inversion)
        return scan_images(net, pictures, config=config, **settings)


def assert_equal_scans(scan, expected):
    for name in ("labels", "stopped", "finished"):
        np.testing.assert_array_equal(getattr(scan, name), getattr(expected, name), err_msg=name)
    assert scan.weights.keys() == expected.weights.keys()
    for one, other in zip(scan.passes, expected.passes, strict=True):
        for name in ("norms", "masks", "patterns", "attack_success"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        for name in ("outliers", "mad"):
            found, wanted = getattr(one, name), getattr(other, name)
            np.testing.assert_array_equal(found.index, wanted.index)
            assert found.flagged == wanted.flagged
    np.testing.assert_array_equal(scan.joint.index, expected.joint.index)
