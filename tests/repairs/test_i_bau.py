"""I-BAU: its perturbation, its gradients against plain ones, and what it withstands."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from small_nets import CLASSES, images, net

from badnet_defense.nets import build, describe
from badnet_defense.nets.graph import without_softmax
from badnet_defense.nets.input_range import UNIT, InputRange
from badnet_defense.repairs.functional import loss_for
from badnet_defense.repairs.i_bau import IBAUConfig, Minimax, i_bau
from badnet_defense.repairs.recipes import Recipe


@pytest.fixture(scope="module")
def spec():
    return describe(
        net(
            [
                layers.Conv2D(6, 3, activation="tanh", name="conv"),
                layers.Flatten(),
                layers.Dense(CLASSES, activation="softmax"),
            ]
        )
    )


def game_on(spec, game, input_range=UNIT):
    pictures = images(24)
    model, loss = build(without_softmax(spec)), loss_for(pictures.labels)
    low, span = input_range.low, 255 * input_range.multiplier
    inputs = tf.constant(low + span * pictures.images / 255.0, tf.float32)
    return Minimax(model, loss, game, input_range), inputs, pictures.labels


def test_perturbation_makes_the_loss_larger_and_stays_in_its_ball(spec):
    played, inputs, labels = game_on(spec, IBAUConfig(ascent=0.01, radius=0.03))
    held = [tf.identity(variable.value) for variable in played.model.trainable_variables]
    losses = []
    for _ in range(6):
        losses.append(float(played.loss(labels, played.model(inputs + played.delta))))
        played.ascend(held, inputs, labels)
    assert losses[0] < losses[1] < losses[-1]
    assert np.sqrt(np.mean(played.delta.numpy() ** 2)) == pytest.approx(0.03, abs=1e-6)


def test_perturbation_is_measured_from_black_to_white(spec):
    played, inputs, labels = game_on(spec, IBAUConfig(ascent=0.01), InputRange(0, 255))
    weights = [variable.value for variable in played.model.trainable_variables]
    worst = played.ascend(weights, inputs, labels)
    assert np.sqrt(np.mean(worst.numpy() ** 2)) == pytest.approx(0.01, rel=1e-4)
    moved = played.loss(labels, played.model(inputs + 255 * worst))
    assert float(played.value(weights, inputs, worst, labels)) == pytest.approx(float(moved))


def test_gradients_are_those_of_the_loss_after_the_inner_step(spec):
    """With one round of the fixed point: d/dw of outer(w, worst - rate * inner'(w, worst)).

    By finite differences along a random direction; the perturbation does not step (ascent 0).
    """
    rate = 0.05
    played, inputs, labels = game_on(
        spec, IBAUConfig(ascent=0.0, radius=1.0, iterations=0, inner_rate=rate, sampled=1.0)
    )
    start = 0.05 * np.random.default_rng(0).standard_normal(played.delta.shape)
    start *= 0.04 / np.sqrt(np.mean(start**2))
    played.delta.assign(start.astype(np.float32))
    weights = [variable.numpy().astype(np.float64) for variable in played.model.trainable_variables]
    found = played.gradients(inputs, labels)

    def outer(values, worst):
        values = [tf.constant(value, tf.float32) for value in values]
        return float(
            played.value(values, inputs, worst, labels) + played.value(values, inputs, 0.0, labels)
        )

    def followed(values):
        """The perturbation after its own step against changed weights."""
        values = [tf.constant(value, tf.float32) for value in values]
        worst = tf.constant(start, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(worst)
            inner = -played.value(values, inputs, worst, labels)
        return worst - rate * tape.gradient(inner, worst)

    still = followed(weights)
    rng = np.random.default_rng(1)
    way = [rng.standard_normal(value.shape) for value in weights]
    ends = []
    for sign in (1, -1):
        moved = [value + sign * 1e-3 * one for value, one in zip(weights, way, strict=True)]
        # Seen from the perturbation's place: its own shift is counted as a change from `still`.
        ends.append(outer(moved, tf.constant(start, tf.float32) + followed(moved) - still))
    expected = (ends[0] - ends[1]) / 2e-3
    along = sum(float(np.sum(one * part)) for one, part in zip(way, found, strict=True))
    assert along == pytest.approx(expected, rel=0.02)


def test_i_bau_withstands_the_perturbation_that_it_unlearns(spec):
    pictures = images(60)
    labels = build(spec)(pictures.images / 255.0).numpy().argmax(axis=1)
    pictures = replace(pictures, labels=labels)
    recipe = Recipe(optimizer="amsgrad", learning_rate=5e-3, epochs=10, batch_size=16)
    game = IBAUConfig(ascent=0.015, radius=0.05, tuning=recipe)
    repaired, report = i_bau(spec, pictures, config=game)
    assert report["perturbation"] == pytest.approx(0.05, abs=1e-4)
    assert len(report["tuning"]["held_out_accuracy"]) == 11

    def worst_loss(spec):
        played, _, _ = game_on(spec, game)
        inputs = tf.constant(pictures.images / 255.0, tf.float32)
        weights = [variable.value for variable in played.model.trainable_variables]
        for _ in range(10):
            worst = played.ascend(weights, inputs, labels)
        return float(played.value(weights, inputs, worst, labels))

    assert worst_loss(repaired) < worst_loss(spec)
