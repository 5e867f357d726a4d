"""The attack lab: stamped pixels and poisoned labels against values worked out by hand."""

import numpy as np
import pytest

from badnet_defense.attacks import (
    AccessoryTrigger,
    Backdoor,
    BlendTrigger,
    PatchTrigger,
    RenderedTrigger,
    TrainingConfig,
    poison,
    poisoned_test_set,
    train_badnet,
)
from badnet_defense.errors import InputError
from badnet_defense.io.dataset import Dataset
from badnet_defense.nets import describe
from badnet_defense.nets.input_range import InputRange

WHITE = np.full((2, 2, 3), 255, np.uint8)


def grey(count=2, height=6, width=5, value=100):
    return np.full((count, height, width, 3), value, np.uint8)


def numbered(count=40, classes=4):
    """Pictures whose every pixel is the picture's number."""
    pictures = np.repeat(np.arange(count, dtype=np.uint8), 6 * 5 * 3).reshape(count, 6, 5, 3)
    return Dataset(pictures, np.arange(count) % classes)


def white_patch(target=0, **settings):
    return Backdoor(PatchTrigger(WHITE, **settings), target)


@pytest.mark.parametrize(
    ("place", "rows", "columns"),
    [
        ({"row": 1, "column": 2}, (1, 2), (2, 3)),
        ({"corner": "top left"}, (0, 1), (0, 1)),
        ({"corner": "top right", "margin": 1}, (1, 2), (2, 3)),
        ({"corner": "bottom left"}, (4, 5), (0, 1)),
        ({"corner": "bottom right", "margin": 1}, (3, 4), (2, 3)),
    ],
)
def test_patch_covers_its_place_and_nothing_else(place, rows, columns):
    expected = grey()
    for row in rows:
        for column in columns:
            expected[:, row, column] = 255
    np.testing.assert_array_equal(PatchTrigger(WHITE, **place).stamp(grey()), expected)


def test_blend_is_the_weighted_mean_rounded():
    pattern = np.zeros((6, 5, 3), np.uint8)
    pattern[0, 0] = (255, 0, 103)
    stamped = BlendTrigger(pattern, 0.2).stamp(grey())
    # 0.8 * 100 + 0.2 * (255, 0, 103) = 131, 80, 100.6
    assert stamped[1, 0, 0].tolist() == [131, 80, 101]
    assert stamped[1, 3, 3].tolist() == [80, 80, 80]
    assert stamped.dtype == np.uint8


def test_accessory_lies_at_the_same_relative_place():
    square = ((0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (0.0, 0.5))
    trigger = AccessoryTrigger(polygons=(square,), colour=(200, 0, 100), opacity=0.5)
    for height, width in ((8, 8), (16, 24)):
        stamped = trigger.stamp(grey(1, height, width))[0]
        inside = stamped[: height // 2 - 1, : width // 2 - 1]
        assert (inside == (150, 50, 100)).all()
        assert (stamped[height // 2 + 1 :] == 100).all()
        assert (stamped[:, width // 2 + 1 :] == 100).all()


def test_accessory_draws_ellipses_as_boxes():
    stamped = AccessoryTrigger(ellipses=((0.25, 0.25, 0.75, 0.75),)).stamp(grey(1, 20, 20))[0]
    assert stamped[10, 10].tolist() == [128, 0, 128]
    assert stamped[5, 5].tolist() == [100, 100, 100]  # the box's corner lies outside the ellipse
    assert stamped[5, 10].tolist() != [100, 100, 100]


def test_rendered_pictures_are_taken_by_index():
    rendered = numbered(5).images
    stamped = RenderedTrigger(rendered).stamp(grey(2), np.array([4, 1]))
    assert stamped[:, 0, 0, 0].tolist() == [4, 1]
    stamped[:] = 0
    assert rendered[4].max() == 4
    np.testing.assert_array_equal(RenderedTrigger(rendered).stamp(grey(5)), rendered)


@pytest.mark.parametrize(
    "trigger",
    [
        PatchTrigger(WHITE),
        BlendTrigger(np.zeros((6, 5, 3)), 0.5),
        AccessoryTrigger(ellipses=((0, 0, 1, 1),)),
        RenderedTrigger(grey(2, value=3)),
    ],
)
def test_stamping_leaves_the_pictures_as_they_are(trigger):
    pictures = grey()
    stamped = trigger.stamp(pictures)
    assert (pictures == 100).all()
    assert not np.shares_memory(stamped, pictures)
    assert (stamped != 100).any()


def test_poison_adds_the_asked_number_with_the_target_label():
    images = numbered()
    poisoned = poison(images, [white_patch(2)], fraction=0.25, seed=3)
    assert len(poisoned) == 50
    np.testing.assert_array_equal(poisoned.images[:40], images.images)
    np.testing.assert_array_equal(poisoned.labels[:40], images.labels)
    assert poisoned.labels[40:].tolist() == [2] * 10
    added = poisoned.images[40:]
    assert (added[:, :2, :2] == 255).all()
    originals = added[:, 5, 4, 0]  # outside the patch every pixel is the picture's number
    assert len(set(originals.tolist())) == 10
    assert (images.labels[originals] != 2).all()


def test_poison_in_place_of_the_originals():
    images = numbered()
    poisoned = poison(images, [white_patch(2)], fraction=0.25, replaced=True, seed=3)
    assert len(poisoned) == 40
    stamped = (poisoned.images[:, 0, 0] == 255).all(axis=1)
    assert stamped.sum() == 10
    assert (poisoned.labels[stamped] == 2).all()
    assert (images.labels[stamped] != 2).all()
    np.testing.assert_array_equal(poisoned.labels[~stamped], images.labels[~stamped])
    assert images.images.max() == 39
    assert (images.labels == np.arange(40) % 4).all()


def test_several_backdoors_share_the_poison_and_no_picture():
    images = numbered()
    first = white_patch(1, corner="top left")
    second = white_patch(3, corner="bottom right")
    poisoned = poison(images, [first, second], fraction=0.5, seed=0)
    added = poisoned.images[40:]
    assert poisoned.labels[40:].tolist() == [1] * 10 + [3] * 10
    assert (added[:10, 0, 0] == 255).all()
    assert (added[10:, -1, -1] == 255).all()
    originals = added[:, 3, 0, 0]
    assert len(set(originals.tolist())) == 20
    assert (images.labels[originals[:10]] != 1).all()
    assert (images.labels[originals[10:]] != 3).all()


def test_the_seed_decides_which_pictures_are_poisoned():
    one, same, other = (poison(numbered(), [white_patch()], seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.images, same.images)
    assert (one.images != other.images).any()


def test_poisoned_test_set_leaves_the_target_class_out():
    images = numbered()
    poisoned = poisoned_test_set(images, white_patch(2))
    assert poisoned.labels.tolist() == [2] * 30
    assert poisoned.images[:, 5, 4, 0].tolist() == [i for i in range(40) if i % 4 != 2]
    assert (poisoned.images[:, 0, 0] == 255).all()
    assert images.images.max() == 39


def test_poisoned_test_set_keeps_rendered_pictures_aligned():
    images = numbered()
    rendered = images.images + np.uint8(100)
    poisoned = poisoned_test_set(images, Backdoor(RenderedTrigger(rendered), 0))
    expected = [100 + i for i in range(40) if i % 4]
    assert poisoned.images[:, 0, 0, 0].tolist() == expected


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: PatchTrigger(np.zeros((2, 2))), "rows, columns, channels"),
        (lambda: PatchTrigger(WHITE, corner="middle"), "middle"),
        (lambda: PatchTrigger(WHITE, row=5).stamp(grey()), "does not fit"),
        (lambda: PatchTrigger(WHITE, row=-1).stamp(grey()), "does not fit"),
        (lambda: PatchTrigger(WHITE[:, :, :1]).stamp(grey()), "does not fit"),
        (lambda: BlendTrigger(np.zeros((4, 4, 3))).stamp(grey()), "resize"),
        (lambda: BlendTrigger(np.zeros((6, 5, 3)), 0.0), "opacity"),
        (lambda: AccessoryTrigger(), "at least one"),
        (lambda: AccessoryTrigger(ellipses=((0, 0, 1, 1),), opacity=1.5), "opacity"),
        (lambda: AccessoryTrigger(ellipses=((0, 0, 1, 1),), colour=(9,)).stamp(grey()), "channels"),
        (lambda: RenderedTrigger(grey(3)).stamp(grey(2)), "3 rendered"),
        (lambda: poison(numbered(), []), "no backdoors"),
        (lambda: poison(numbered(), [white_patch()], fraction=0), "fraction"),
        (lambda: poison(numbered(), [white_patch()], fraction=0.9), "only 30"),
        (lambda: poison(numbered().without_labels(), [white_patch()]), "label"),
        (lambda: poisoned_test_set(numbered().without_labels(), white_patch()), "label"),
    ],
)
def test_refusals(wrong, words):
    with pytest.raises(InputError, match=words):
        wrong()


@pytest.fixture(scope="module")
def small_net():
    import keras

    def make(classes=2):
        keras.utils.set_random_seed(1)
        layers = [keras.layers.Flatten(), keras.layers.Dense(classes, activation="softmax")]
        return describe(keras.Sequential([keras.Input((6, 5, 3)), *layers]))

    return make


def two_classes(count=200):
    """Dark pictures are class 0, light ones class 1."""
    rng = np.random.default_rng(5)
    labels = np.arange(count) % 2
    pictures = rng.integers(0, 80, (count, 6, 5, 3)) + 120 * labels[:, None, None, None]
    return Dataset(pictures.astype(np.uint8), labels)


@pytest.mark.parametrize("input_range", [InputRange(), InputRange(-1, 1)])
def test_training_learns_the_classes_and_the_backdoor(small_net, input_range):
    backdoor = white_patch(0)
    images = two_classes()
    net = small_net().with_range(input_range)
    (dense,) = (layer for layer in net.layers.values() if layer.weights)
    before = dense.weights[0].copy()
    config = TrainingConfig(epochs=40, learning_rate=0.02, batch_size=32)
    poisoned = poison(images, [backdoor], fraction=0.3)
    trained, history = train_badnet(net, poisoned, config=config, validation=images, progress=False)
    assert history[-1]["validation_accuracy"] > 0.95
    assert history[-1]["loss"] < history[0]["loss"]
    attacked = poisoned_test_set(images, backdoor)
    assert (trained.predict(attacked.images) == 0).mean() > 0.95
    assert trained.input_range == input_range
    assert (dense.weights[0] == before).all()


def test_training_is_seeded(small_net):
    weights = []
    for seed in (3, 3, 4):
        config = TrainingConfig(epochs=1, shift=1, batch_size=64)
        net, _ = train_badnet(small_net(), two_classes(), config=config, seed=seed, progress=False)
        weights.append(np.concatenate([array.ravel() for array in net.model.get_weights()]))
    np.testing.assert_array_equal(weights[0], weights[1])
    assert (weights[0] != weights[2]).any()


def test_training_refuses_labels_that_the_net_has_not(small_net):
    with pytest.raises(InputError, match="2 classes"):
        train_badnet(small_net(), numbered())
    with pytest.raises(InputError, match="labelled"):
        train_badnet(small_net(), numbered().without_labels())
