"""Tuning a pruned net: which epoch is kept, what stays as it was, and how pictures are changed."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers
from small_nets import CLASSES, images, inputs, net

from badnet_defense.errors import InputError
from badnet_defense.io.splits import three_parts
from badnet_defense.nets import build, describe
from badnet_defense.nets.input_range import InputRange
from badnet_defense.nets.surgery import channel_masks, zero_channels
from badnet_defense.repairs import training as fine_tuning
from badnet_defense.repairs.fine_pruning import FinePruningConfig, fine_prune
from badnet_defense.repairs.recipes import RECIPES, Recipe
from badnet_defense.repairs.training import train
from badnet_defense.repairs.validated_tuning import (
    HELD_OUT,
    absent_classes,
    tune_with_validation,
)

PLAIN = Recipe(learning_rate=0.05, epochs=3, batch_size=8, decays=False)
CHANGED = replace(PLAIN, shift=0.2, light=0.3, erase=0.5)


def small_net(seed=0):
    return describe(
        net(
            [
                layers.Conv2D(4, 3, activation="relu", name="conv"),
                layers.BatchNormalization(name="norm"),
                layers.Flatten(name="rows"),
                layers.Dropout(0.2, name="drop"),
                layers.Dense(CLASSES, activation="softmax", name="out"),
            ],
            seed=seed,
        )
    )


def assert_equal_weights(a, b):
    for name, layer in a.layers.items():
        for one, other in zip(layer.weights, b.layers[name].weights, strict=True):
            np.testing.assert_array_equal(one, other)


def known_images(count):
    """Pictures that the small net knows: their labels are its own answers."""
    pictures = images(count)
    return replace(pictures, labels=small_net().predict(pictures.images))


def differ(a, b):
    pairs = [zip(a.layers[n].weights, b.layers[n].weights, strict=True) for n in a.layers]
    return any((one != other).any() for pair in pairs for one, other in pair)


class ScriptedScores:
    """Stands in for the held-out answers: each look gives the next of the given accuracies.

    `seen` keeps the net's weights at each look.
    """

    def __init__(self, accuracies, labels):
        self.accuracies, self.labels, self.seen = list(accuracies), labels, []

    def __call__(self, model, pictures, **settings):
        right = round(self.accuracies[len(self.seen)] * len(self.labels))
        self.seen.append(model.get_weights())
        answers = self.labels.copy()
        answers[right:] += 1
        return answers


@pytest.mark.parametrize(
    ("accuracies", "kept"),
    [
        ([0.1, 0.5, 0.9, 0.3], 2),
        ([0.1, 0.9, 0.5, 0.9], 3),  # the latest of equally good ones
        ([1.0, 0.2, 0.2, 0.1], 2),  # never the untuned net, however good it looks
        ([0.0, 0.4, 0.3, 0.2], 1),
    ],
)
def test_best_held_out_epoch_is_kept(accuracies, kept, monkeypatch):
    held_out = images(10, seed=2)
    scripted = ScriptedScores(accuracies, held_out.labels)
    monkeypatch.setattr(fine_tuning, "predict_labels", scripted)
    tuned, report = train(small_net(), images(24), held_out, recipe=PLAIN)
    assert report.kept_epoch == kept
    assert report.held_out_accuracy == tuple(accuracies)
    for found, wanted in zip(build(tuned).get_weights(), scripted.seen[kept], strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert report.as_dict() == {"kept_epoch": kept, "held_out_accuracy": accuracies, "steps": 9}


def test_held_out_accuracy_is_that_of_the_kept_net():
    held_out = images(20, seed=2)
    tuned, report = train(small_net(), images(24), held_out, recipe=PLAIN)
    answers = build(tuned).predict(held_out.images / np.float32(255), verbose=0).argmax(axis=1)
    assert report.held_out_accuracy[report.kept_epoch] == np.mean(answers == held_out.labels)
    assert len(report.held_out_accuracy) == 4


def test_same_seed_same_weights_and_the_caller_s_net_unchanged():
    spec = small_net()
    before = small_net()
    first, _ = train(spec, images(24), images(9), recipe=CHANGED, seed=3)
    second, _ = train(spec, images(24), images(9), recipe=CHANGED, seed=3)
    other, _ = train(spec, images(24), images(9), recipe=CHANGED, seed=4)
    assert_equal_weights(first, second)
    assert differ(first, other) and differ(first, spec)
    assert_equal_weights(spec, before)


def test_tuning_learns_the_labels():
    pictures = images(40)
    pictures.labels[:] = (pictures.images.mean(axis=(1, 2, 3)) > 127).astype(int)
    spec = describe(net([layers.Flatten(), layers.Dense(CLASSES, activation="softmax")]))
    recipe = replace(PLAIN, epochs=15, learning_rate=0.01)
    _, report = train(spec, pictures, pictures, recipe=recipe)
    assert report.held_out_accuracy[0] < 0.6
    assert max(report.held_out_accuracy) > 0.9


def test_no_epochs_leave_the_net_as_it_is():
    spec = small_net()
    tuned, report = train(spec, images(8), images(8), recipe=replace(PLAIN, epochs=0))
    assert_equal_weights(tuned, spec)
    assert report.kept_epoch == 0 and len(report.held_out_accuracy) == 1


def test_soft_targets_are_the_targets():
    """Soft targets that are one-hot tune as the labels do; others tune elsewhere."""
    pictures, held_out = images(24), images(8)
    settings = {"recipe": replace(PLAIN, epochs=1)}
    hard, _ = train(small_net(), pictures, held_out, **settings)
    one_hot = np.eye(CLASSES, dtype=np.float32)[pictures.labels]
    wrong = replace(pictures, labels=np.zeros(24, np.int64))  # the labels are not looked at
    soft, _ = train(small_net(), wrong, held_out, targets=one_hot, **settings)
    np.testing.assert_allclose(soft.numpy_proba(inputs()), hard.numpy_proba(inputs()), atol=1e-4)
    even = np.full((24, CLASSES), 1 / CLASSES, np.float32)
    flat, _ = train(small_net(), pictures, held_out, targets=even, **settings)
    assert np.abs(flat.numpy_proba(inputs()) - hard.numpy_proba(inputs())).max() > 0.05


def test_one_plain_step_is_sgd_with_nesterov_momentum():
    """One batch, one epoch, against the step worked out with a gradient of Keras' own loss."""
    import tensorflow as tf

    spec = describe(
        net([layers.Flatten(), layers.Dense(CLASSES, activation="softmax", name="out")])
    )
    pictures = images(6)
    recipe = Recipe(learning_rate=0.1, epochs=1, batch_size=6, decays=False)
    tuned, _ = train(spec, pictures, pictures, recipe=recipe)
    kernel, bias = (tf.Variable(one) for one in spec.layers["out"].weights)
    with tf.GradientTape() as tape:
        logits = tf.reshape(pictures.images / np.float32(255), (6, -1)) @ kernel + bias
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(pictures.labels, logits)
        )
    gradients = tape.gradient(loss, [kernel, bias])
    # Nesterov's first step from rest: momentum * (-rate * g) - rate * g, momentum 0.9.
    for found, old, gradient in zip(
        tuned.layers["out"].weights, (kernel, bias), gradients, strict=True
    ):
        np.testing.assert_allclose(found, old - 1.9 * 0.1 * gradient, atol=1e-5)


def test_frozen_weights_stay_zero_and_others_move():
    spec = small_net()
    pruned = zero_channels(spec, "conv", [1, 2])
    masks = channel_masks(spec, "conv", [1, 2])
    held, _ = train(pruned, images(24), images(8), recipe=PLAIN, frozen=masks)
    free, _ = train(pruned, images(24), images(8), recipe=PLAIN)
    kernel, bias = held.layers["conv"].weights
    assert not kernel[..., [1, 2]].any() and not bias[[1, 2]].any()
    gamma, beta, *_ = held.layers["norm"].weights
    assert not gamma[[1, 2]].any() and not beta[[1, 2]].any()
    assert (kernel[..., [0, 3]] != spec.layers["conv"].weights[0][..., [0, 3]]).any()
    assert free.layers["norm"].weights[1][[1, 2]].any()  # without it, they may grow back


def test_tuning_in_another_input_range():
    pictures = images(24)
    ranged = small_net().with_range(InputRange(-1, 1))
    tuned, _ = train(ranged, pictures, images(8), recipe=PLAIN)
    unit, _ = train(small_net(), pictures, images(8), recipe=PLAIN)
    assert differ(tuned, unit)


def test_classic_recipe_is_that_of_the_challenge_s_teams():
    classic = RECIPES["classic"]
    assert (classic.optimizer, classic.learning_rate, classic.decays) == ("amsgrad", 1e-3, False)
    assert (classic.batch_size, classic.epochs) == (200, 5)
    assert not (classic.shift or classic.light or classic.erase or classic.clip)
    optimizer = fine_tuning._optimizer(classic, 10)
    assert isinstance(optimizer, keras.optimizers.Adam) and optimizer.amsgrad


def test_decaying_rate_ends_at_nothing():
    optimizer = fine_tuning._optimizer(replace(PLAIN, decays=True, learning_rate=0.4), 100)
    rates = [float(optimizer._learning_rate(step)) for step in (0, 25, 100)]
    np.testing.assert_allclose(rates, [0.4, 0.3, 0.0], atol=1e-6)


def test_fine_prune_prunes_splits_and_tunes():
    spec, pictures = small_net(), known_images(40)
    repaired, report = fine_prune(
        spec, pictures, config=FinePruningConfig(fraction=0.5, tuning=PLAIN), seed=1
    )
    assert report["pruning"]["removed"] == 2
    pruned = zero_channels(spec, "conv", report["pruning"]["order"][:2])
    assert differ(repaired, pruned)
    split = three_parts(pictures.labels, HELD_OUT, seed=1)
    parts = (pictures.subset(split.tuning), pictures.subset(split.choosing))
    absent = absent_classes(pictures.labels, CLASSES)
    tuned, _ = train(pruned, *parts, recipe=PLAIN, held_back=absent, seed=1)
    assert_equal_weights(repaired, tuned)
    assert_equal_weights(spec, small_net())


def test_a_repair_depends_on_no_untouched_picture():
    """Whatever is in their place, the same channels go, and the same weights come out."""
    pictures, others = known_images(60), known_images(60)
    untouched = three_parts(pictures.labels, HELD_OUT, seed=3).untouched
    assert len(untouched) > 2
    others.images[untouched] = 255 - others.images[untouched]
    config = FinePruningConfig(tuning=PLAIN, max_accuracy_drop=0.5)
    settings = {"config": config, "seed": 3}
    first, report = fine_prune(small_net(), pictures, **settings)
    second, again = fine_prune(small_net(), others, **settings)
    assert report == again
    assert_equal_weights(first, second)


@pytest.mark.parametrize(
    ("epochs", "pictures", "expected"),
    [(12, 400, (250, 4)), (12, 100_000, (12, 782)), (2, 400, (250, 4)), (0, 400, (0, 4))],
)
def test_a_named_number_of_epochs_keeps_the_least_steps(epochs, pictures, expected):
    """400 pictures in batches of 128 are 4 steps: 1,000 take 250 epochs."""
    assert replace(RECIPES["default"], epochs=epochs).epochs_for(pictures) == expected


def test_more_epochs_than_asked_are_told(caplog):
    caplog.set_level("INFO")
    recipe = replace(PLAIN, epochs=1, least_steps=7)
    _, report = tune_with_validation(small_net(), images(30), recipe=recipe)
    assert report.steps == 8 and len(report.held_out_accuracy) == 3
    assert "tuning goes on for 2 epochs, not 1, until there are at least 7 steps" in caplog.text


def test_keep_pruned_holds_the_pruned_channels_at_zero():
    config = FinePruningConfig(fraction=0.5, tuning=PLAIN, keep_pruned=True)
    repaired, report = fine_prune(small_net(), known_images(40), config=config)
    zeroed = report["pruning"]["order"][:2]
    assert not repaired.layers["conv"].weights[0][..., zeroed].any()


def test_fine_prune_needs_labels():
    with pytest.raises(InputError, match="use the model's predictions as pseudo-labels"):
        fine_prune(small_net(), images(40).without_labels())


def test_after_step_changes_the_net_and_says_what_may_be_kept(monkeypatch):
    held_out = images(10, seed=2)
    scripted = ScriptedScores([0.1, 0.9, 0.5, 0.4], held_out.labels)
    monkeypatch.setattr(fine_tuning, "predict_labels", scripted)
    seen = []

    def after_step(net, done):
        seen.append(done)
        net.get_layer("out").bias.assign([done] * CLASSES)
        return done > 0.5

    tuned, report = train(small_net(), images(24), held_out, recipe=PLAIN, after_step=after_step)
    np.testing.assert_allclose(seen, np.arange(1, 10) / 9)  # three epochs of three steps
    assert report.kept_epoch == 2  # the first was better, but might not be kept
    np.testing.assert_allclose(tuned.layers["out"].weights[1], 6 / 9)
