"""Silencing channels: what is zeroed, and what stays as it was."""

import keras
import numpy as np
import pytest
from keras import layers
from pruned_nets import NETS, flat_net, normalised_net
from small_nets import (
    CLASSES,
    inputs,
    net,
)

from badnet_defense.nets import build, describe
from badnet_defense.nets.surgery import channel_count, channel_masks, zero_channels


def copies(spec):
    return {name: [w.copy() for w in layer.weights] for name, layer in spec.layers.items()}


@pytest.mark.parametrize("name", NETS)
def test_zeroed_channels_put_out_what_silence_puts_out(name):
    """Only the chosen channels change, they no longer see the picture, and the net stays whole."""
    make, layer = NETS[name]
    spec = describe(make())
    before = copies(spec)
    chosen = [1, 3]
    zeroed = build(zero_channels(spec, layer, chosen))
    outputs = keras.Model(zeroed.inputs[0], zeroed.get_layer(layer).output)(inputs()).numpy()
    original = build(spec)
    full = keras.Model(original.inputs[0], original.get_layer(layer).output)(inputs()).numpy()
    rest = [c for c in range(channel_count(spec, layer)) if c not in chosen]
    np.testing.assert_array_equal(outputs[..., chosen], 0)
    np.testing.assert_array_equal(outputs[..., rest], full[..., rest])
    for key, weights in before.items():  # the caller's net is as it was
        for old, new in zip(weights, spec.layers[key].weights, strict=True):
            np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("settings", [{}, {"scale": False}, {"center": False}])
def test_normalisation_behind_a_zeroed_channel_is_silent_too(settings):
    """Its moving mean would otherwise turn the zeros into a constant."""
    model = net(
        [
            layers.Conv2D(4, 3, name="conv"),
            layers.BatchNormalization(name="norm", **settings),
            layers.Flatten(),
            layers.Dense(CLASSES),
        ]
    )
    zeroed = build(zero_channels(describe(model), "conv", [2]))
    results = [
        keras.Model(one.inputs[0], one.get_layer("norm").output)(inputs()).numpy()
        for one in (zeroed, model)
    ]
    np.testing.assert_allclose(results[0][..., 2], 0, atol=1e-6)
    np.testing.assert_allclose(results[0][..., [0, 1, 3]], results[1][..., [0, 1, 3]], rtol=1e-5)


def test_channels_may_be_a_mask():
    spec = describe(flat_net())
    mask = np.array([0, 1, 0, 1, 0, 0], bool)
    by_mask, by_number = (zero_channels(spec, "conv", one) for one in (mask, [1, 3]))
    for found, wanted in zip(
        by_mask.layers["conv"].weights, by_number.layers["conv"].weights, strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


def test_channel_masks_are_zero_where_zeroing_zeroes():
    masks = channel_masks(describe(normalised_net()), "conv", [1, 4])
    assert set(masks) == {"conv", "norm"}
    kernel = masks["conv"][0]
    assert kernel.shape == (3, 3, 3, 6)
    np.testing.assert_array_equal(kernel[0, 0, 0], [1, 0, 1, 1, 0, 1])
    gamma, beta, mean, variance = masks["norm"]
    for one in (gamma, beta):
        np.testing.assert_array_equal(one, [1, 0, 1, 1, 0, 1])
    assert mean.all() and variance.all()
