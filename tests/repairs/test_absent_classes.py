"""Classes that no clean image shows are not forgotten by a repair."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import tensorflow as tf
from backdoored_nets import QUICK, weights
from keras import layers
from small_nets import net

from badnet_defense.io import Dataset
from badnet_defense.nets import build, describe, predict_labels
from badnet_defense.repairs import validated_tuning as held_out_tuning
from badnet_defense.repairs.ft_sam import FT_SAM
from badnet_defense.repairs.functional import loss_for
from badnet_defense.repairs.recipes import RECIPES
from badnet_defense.repairs.registry import REPAIRS
from badnet_defense.repairs.training import train
from badnet_defense.repairs.validated_tuning import absent_classes

SHAPE, CLASSES, TARGET, OTHER = (8, 8, 3), 6, 3, 1
RECIPE = replace(RECIPES["default"], learning_rate=2e-3, epochs=12, least_steps=150, batch_size=64)


@cache
def _mosaics():
    """A coarse mosaic for each class."""
    return np.kron(
        np.random.default_rng(3).uniform(0, 255, (CLASSES, 4, 4, 3)), np.ones((1, 2, 2, 1))
    )


def mosaics(count, *, seed):
    """Images whose class is the mosaic under their noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    pictures = _mosaics()[labels] + rng.normal(0, 70, (count, *SHAPE))
    return Dataset(np.clip(np.rint(pictures), 0, 255).astype(np.uint8), labels)


def stamped(pictures):
    """With a yellow square in the corner."""
    pictures = pictures.copy()
    pictures[:, -3:, -3:] = [255, 255, 0]
    return pictures


@cache
def suspect():
    """A net that was trained with every eighth image carrying the square."""
    model = net(
        [
            layers.Conv2D(12, 3, activation="relu", name="conv"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(24, activation="relu"),
            layers.Dense(CLASSES, activation="softmax", name="out"),
        ],
        shape=SHAPE,
    )
    clean = mosaics(1200, seed=1)
    pictures, labels = clean.images.copy(), clean.labels.copy()
    pictures[::7], labels[::7] = stamped(pictures[::7]), TARGET
    poisoned = Dataset(pictures, labels)
    spec, _ = train(describe(model), poisoned, clean, recipe=replace(QUICK, epochs=20))
    return spec


def without(label, *, seed=2):
    """Clean images of all classes but one."""
    clean = mosaics(420, seed=seed)
    return clean.subset(clean.labels != label)


def accuracy_of(spec, label):
    """Share of fresh images of a class that are answered with it."""
    fresh = mosaics(600, seed=9)
    shown = fresh.images[fresh.labels == label]
    return np.mean(predict_labels(build(spec), shown) == label)


def attack_success(spec):
    fresh = mosaics(600, seed=9)
    return np.mean(
        predict_labels(build(spec), stamped(fresh.images[fresh.labels != TARGET])) == TARGET
    )


def test_the_suspect_knows_all_classes_and_the_trigger():
    assert min(accuracy_of(suspect(), label) for label in range(CLASSES)) > 0.95
    assert attack_success(suspect()) > 0.9


SETTINGS = {
    "fine-pruning": {"tuning": RECIPE},
    "fine-tuning": {"tuning": RECIPE},
    "ft-sam": {"tuning": replace(FT_SAM, least_steps=150, batch_size=64)},
    "i-bau": {"tuning": RECIPE},
    "magnitude-pruning": {"sparsity": 0.3, "tuning": replace(RECIPE, erase=0, pattern=0)},
    "scan-unlearning": {"tuning": RECIPE},
}


def repaired_by(name, net, data):
    """The net after a repair with `SETTINGS`."""
    triggers = {"triggers": [(TARGET, *_square())]} if name == "scan-unlearning" else {}
    config = REPAIRS[name].make_config(SETTINGS[name])
    return REPAIRS[name].run(net, data, config=config, **triggers)[0]


KEPT = 0.8
"""Accuracy that must be left of the class."""


def _square():
    mask, pattern = np.zeros((*SHAPE[:2], 1), np.float32), np.zeros(SHAPE, np.float32)
    mask[-3:, -3:], pattern[-3:, -3:] = 1, (1, 1, 0)
    return mask, pattern


@pytest.mark.parametrize("name", SETTINGS)
def test_a_class_without_images_is_kept(name):
    repaired = repaired_by(name, suspect(), without(OTHER))
    assert accuracy_of(repaired, OTHER) > KEPT
    others = [label for label in range(CLASSES) if label != OTHER]
    assert min(accuracy_of(repaired, label) for label in others) > 0.85


def test_tuning_against_it_on_every_image_forgets_more(monkeypatch):
    """What the loss of all classes does to the class: the cases above prove something."""
    kept = repaired_by("fine-pruning", suspect(), without(OTHER))
    monkeypatch.setattr(held_out_tuning, "absent_classes", lambda *_: ())
    plain = repaired_by("fine-pruning", suspect(), without(OTHER))
    assert accuracy_of(plain, OTHER) < accuracy_of(kept, OTHER) - 0.3


def test_the_loss_of_the_other_classes_by_hand():
    logits = np.array([[1.0, 5.0, 2.0, -1.0], [0.5, 9.0, 0.0, 3.0]], np.float32)
    kept = logits[:, [0, 2, 3]].astype(np.float64)
    shares = np.log(np.exp(kept) / np.exp(kept).sum(axis=1, keepdims=True))
    labels = np.array([2, 3])
    expected = -(shares[0, 1] + shares[1, 2]) / 2
    found = loss_for(labels, np.array([1]))(labels, tf.constant(logits))
    np.testing.assert_allclose(float(found), expected, rtol=1e-5)
    soft = np.array([[0.1, 0.2, 0.6, 0.1], [0.0, 0.5, 0.0, 0.5]], np.float32)
    scaled = np.array([[0.125, 0.75, 0.125], [0, 0, 1]])
    found = loss_for(soft, np.array([1]))(tf.constant(soft), tf.constant(logits))
    expected = -(scaled * shares).sum(axis=1).mean()
    np.testing.assert_allclose(float(found), expected, rtol=1e-5)


def test_nothing_is_held_back_where_every_class_has_an_image():
    """The loss is then Keras' own, so that the ordinary repair is what it was."""
    assert absent_classes(np.array([2, 0, 1, 1]), 3).size == 0
    assert absent_classes(np.array([2, 0, 2]), 4).tolist() == [1, 3]
    assert type(loss_for(np.array([0]))).__name__ == "SparseCategoricalCrossentropy"
    images = mosaics(120, seed=2)
    recipe = replace(RECIPE, epochs=1, least_steps=0)
    one, _ = train(suspect(), images, images, recipe=recipe)
    other, _ = train(
        suspect(), images, images, recipe=recipe, held_back=absent_classes(images.labels, CLASSES)
    )
    for a, b in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(a, b)
