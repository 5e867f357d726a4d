"""Repairs by found triggers: pruning what they wake, and unlearning them."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers
from planted_net import (
    SHAPE,
    TARGET,
    clean_images,
    planted_net,
    planted_trigger,
)
from small_nets import images, net

from badnet_defense.data import InputRange
from badnet_defense.data.input_range import UNIT
from badnet_defense.errors import InputError
from badnet_defense.nets import build, describe, predict_labels, predict_probabilities
from badnet_defense.nets.graph import without_softmax
from badnet_defense.repair import trigger_pruning, unlearning
from badnet_defense.repair.channels import zero_channels
from badnet_defense.repair.fine_tuning import Tuning, fine_tune
from badnet_defense.repair.recipes import Recipe
from badnet_defense.repair.trigger_pruning import GONE, prune_by_triggers
from badnet_defense.repair.unlearning import unlearn

QUARTERS = 4
QUICK = Recipe(optimizer="amsgrad", learning_rate=5e-3, epochs=25, batch_size=64, clip=1.0)


def quarter_images(count, *, seed=1):
    """Pictures whose class is their brightest quarter."""
    found = images(count, shape=SHAPE, seed=seed)
    half = SHAPE[0] // 2
    bright = found.pictures.reshape(count, 2, half, 2, half, 3).mean(axis=(2, 4, 5))
    return replace(found, labels=bright.reshape(count, 4).argmax(axis=1))


def stamped_by_hand(pictures, mask, pattern):
    shown = pictures / 255.0 * (1 - mask) + mask * pattern
    return np.rint(255 * shown).astype(np.uint8)


@pytest.fixture(scope="module")
def trained():
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
    poisoned = clean.pictures.copy()
    poisoned[::4] = stamped_by_hand(poisoned[::4], *planted_trigger())
    labels = np.where(np.arange(900) % 4 == 0, 2, clean.labels)
    recipe = replace(QUICK, epochs=30, decays=True)
    tuned, _ = fine_tune(
        spec, replace(clean, pictures=poisoned, labels=labels), clean, recipe=recipe
    )
    return tuned


@pytest.fixture(scope="module")
def planted():
    return describe(planted_net())


def accuracy(spec, pictures, input_range=UNIT):
    answers = predict_labels(build(spec), pictures.pictures, input_range=input_range)
    return np.mean(answers == pictures.labels)


def success(spec, pictures, trigger, label):
    """Share of the pictures with other labels that the stamped trigger sends to `label`."""
    others = pictures.pictures[pictures.labels != label]
    stamped = stamped_by_hand(others, *trigger)
    return np.mean(predict_labels(build(spec), stamped) == label)


def weights(spec):
    return [weight for layer in spec.layers.values() for weight in layer.weights]


def equal(one, other):
    return all((a == b).all() for a, b in zip(weights(one), weights(other), strict=True))


# Pruning -----------------------------------------------------------------------------------------


def plain_gains(spec, layer, pictures, triggers):
    """How much each trigger wakes each channel: mean activation with it less that without it."""
    model = build(spec)
    seen = keras.Model(model.input, model.get_layer(layer).output)

    def means(shown):
        return seen(np.float32(shown)).numpy().astype(np.float64).mean(axis=(0, 1, 2))

    clean = means(pictures.pictures / 255)
    gains = []
    for label, mask, pattern in triggers:
        others = pictures.pictures[pictures.labels != label] / 255
        gains.append(means(others * (1 - mask) + mask * pattern) - clean)
    return np.array(gains)


def plain_curves(spec, layer, order, pictures, triggers):
    """(accuracies, {label: successes}) of nets with 0, 1, .. channels zeroed, one by one."""
    accuracies, successes = [], {label: [] for label, *_ in triggers}
    for count in range(len(order) + 1):
        zeroed = zero_channels(spec, layer, list(order[:count]))
        accuracies.append(accuracy(zeroed, pictures))
        for label, mask, pattern in triggers:
            others = pictures.pictures[pictures.labels != label] / np.float32(255)
            shown = 255 * (others * (1 - mask) + mask * pattern)
            successes[label].append(np.mean(predict_labels(build(zeroed), shown) == label))
    return accuracies, successes


def test_the_planted_channel_goes_and_nothing_else(planted):
    """One channel out of five carries the backdoor: with it the trigger is gone."""
    pictures, trigger = clean_images(200), (TARGET, *planted_trigger())
    pruned, report = prune_by_triggers(planted, pictures, [trigger], max_accuracy_drop=0.2)
    assert (report.layer, report.channels, report.removed) == ("conv", 5, 1)
    assert report.order[0] == 0
    assert report.success[TARGET][0] > 0.99 and report.success[TARGET][1] <= GONE
    assert report.curve[0] == 1.0 and report.curve[1] > 0.8
    assert equal(pruned, zero_channels(planted, "conv", [0]))
    assert equal(planted, describe(planted_net()))


def test_order_is_by_the_largest_gain(trained):
    """Two triggers, the second of which hardly wakes anything: each counts by its own scale."""
    pictures = quarter_images(200)
    whole = (3, np.full((*SHAPE[:2], 1), 0.1), np.random.default_rng(0).random(SHAPE))
    triggers = [(2, *planted_trigger()), whole]
    _, report = prune_by_triggers(trained, pictures, triggers)
    gains = plain_gains(trained, "conv", pictures, triggers)
    worth = (gains / gains.max(axis=1, keepdims=True)).max(axis=0)
    np.testing.assert_allclose(worth[list(report.order)], np.sort(worth)[::-1], atol=1e-4)
    assert {gains[0].argmax(), gains[1].argmax()} == set(report.order[:2])
    assert gains[0].argmax() != gains[1].argmax()  # else the case proves little


def test_curves_are_those_of_the_plain_way(trained):
    pictures = quarter_images(150)
    triggers = [(2, *planted_trigger()), (0, *planted_trigger(0.7, (8, 2)))]
    pruned, report = prune_by_triggers(trained, pictures, triggers, max_accuracy_drop=1.0)
    accuracies, successes = plain_curves(trained, "conv", report.order, pictures, triggers)
    assert list(report.curve) == accuracies
    assert {label: list(curve) for label, curve in report.success.items()} == successes
    assert len(set(accuracies)) > 2 and len(set(successes[2])) > 2
    worst = np.maximum(successes[2], successes[0])
    assert report.removed == np.flatnonzero(worst <= GONE)[0]  # accuracy may fall to nothing
    assert equal(pruned, zero_channels(trained, "conv", list(report.order[: report.removed])))


@pytest.mark.parametrize("drop", [0.0, 0.05, 0.3])
def test_stops_where_accuracy_would_fall_too_far(trained, drop, monkeypatch):
    """A trigger that is never gone: the last point before accuracy lies too far below."""
    monkeypatch.setattr(trigger_pruning, "GONE", -1)
    pictures = quarter_images(150)
    _, report = prune_by_triggers(
        trained, pictures, [(2, *planted_trigger())], max_accuracy_drop=drop
    )
    fallen = [one < report.curve[0] - drop - 1e-9 for one in report.curve]
    assert any(fallen)
    assert report.removed == fallen.index(True) - 1


def test_a_trigger_that_never_works_costs_nothing(planted):
    pictures = clean_images(100)
    nothing = np.zeros((*SHAPE[:2], 1), np.float32), np.zeros(SHAPE, np.float32)
    pruned, report = prune_by_triggers(planted, pictures, [(3, *nothing)])
    assert report.removed == 0 and report.success[3][0] == 0
    assert equal(pruned, planted)


def test_pruning_by_triggers_in_another_range():
    raw = describe(planted_net(span=255.0))
    pictures = clean_images(100, span=255.0)
    settings = {"max_accuracy_drop": 0.2, "input_range": InputRange(0, 255)}
    pruned, report = prune_by_triggers(raw, pictures, [(TARGET, *planted_trigger())], **settings)
    assert report.removed == 1 and report.curve[0] == 1.0
    assert accuracy(pruned, pictures, InputRange(0, 255)) == report.curve[1] > 0.8


def test_pruning_another_layer_and_none(planted):
    trigger = [(TARGET, *planted_trigger())]
    with pytest.raises(InputError, match="is a Dense"):
        prune_by_triggers(planted, clean_images(20), trigger, layer="by_colour")


def test_at_most_so_many_pictures_carry_a_trigger(planted, monkeypatch):
    monkeypatch.setattr(trigger_pruning, "PICTURES", 50)
    pictures = clean_images(180)
    trigger = TARGET, *planted_trigger(0.3)
    _, report = prune_by_triggers(planted, pictures, [trigger], max_accuracy_drop=0.2)
    others = np.count_nonzero(pictures.labels != TARGET)
    assert others > 150
    chosen = pictures.pictures[pictures.labels != TARGET][:: -(-others // 50)]
    shown = chosen / 255.0 * (1 - trigger[1]) + trigger[1] * trigger[2]
    answers = predict_labels(build(planted), np.float32(255 * shown))
    assert 0 < np.mean(answers == TARGET) < 1  # else the case proves little
    assert report.success[TARGET][0] == np.mean(answers == TARGET)


# Unlearning --------------------------------------------------------------------------------------


def test_the_trained_net_has_a_backdoor(trained):
    fresh = quarter_images(300, seed=8)
    assert accuracy(trained, fresh) > 0.85
    assert success(trained, fresh, planted_trigger(), 2) > 0.9


def test_unlearning_takes_the_trigger_s_success(trained):
    clean, fresh = quarter_images(400), quarter_images(300, seed=8)
    before = [weight.copy() for weight in weights(trained)]
    trigger = planted_trigger()
    repaired, report = unlearn(trained, clean, [(2, *trigger)], recipe=QUICK, seed=3)
    assert success(repaired, fresh, trigger, 2) < 0.3
    assert accuracy(repaired, fresh) > accuracy(trained, fresh) - 0.05
    assert report.kept_epoch > 0 and len(report.held_out_accuracy) == 26
    # Before, half of the held-out pictures carry a trigger that works.
    assert report.held_out_accuracy[0] < 0.75 < max(report.held_out_accuracy)
    for one, other in zip(before, weights(trained), strict=True):
        np.testing.assert_array_equal(one, other)


def test_same_seed_same_unlearning(trained):
    clean, triggers = quarter_images(100), [(2, *planted_trigger())]
    settings = {"recipe": replace(QUICK, epochs=1)}
    first, second, other = (
        unlearn(trained, clean, triggers, seed=seed, **settings)[0] for seed in (1, 1, 2)
    )
    assert equal(first, second) and not equal(first, other)


def test_soft_targets_unlearn_without_labels(trained):
    """The net's own answers to the clean pictures, as soft labels of them and of the copies."""
    clean, fresh = quarter_images(400), quarter_images(300, seed=8)
    targets = predict_probabilities(build(trained), clean.pictures)
    own = replace(clean, labels=targets.argmax(axis=1))
    trigger = planted_trigger()
    repaired, _ = unlearn(trained, own, [(2, *trigger)], targets=targets, recipe=QUICK)
    assert success(repaired, fresh, trigger, 2) < 0.4
    assert accuracy(repaired, fresh) > accuracy(trained, fresh) - 0.05


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_is_tuned_on_and_chosen_by(trained, monkeypatch, dtype):
    """Picture i is grey i, so that each copy still says whose it is beside its patch."""
    given = {}

    def recorder(spec, tuning, held_out, *, targets, **settings):
        given.update(tuning=tuning, held_out=held_out, targets=targets)
        return spec, Tuning(0, (1.0,))

    monkeypatch.setattr(unlearning, "fine_tune", recorder)
    grey = np.broadcast_to(np.arange(100)[:, None, None, None], (100, *SHAPE)).astype(dtype)
    clean = replace(quarter_images(100), pictures=grey, labels=np.arange(100) % QUARTERS)
    targets = np.random.default_rng(0).dirichlet(np.ones(QUARTERS), 100)
    triggers = [(2, *planted_trigger(1.0, (0, 0))), (1, *planted_trigger(0.5, (0, 4)))]
    unlearn(trained, clean, triggers, targets=targets, seed=1)
    whose = {
        part: given[part].pictures[:, -1, -1, 0].astype(int) for part in ("tuning", "held_out")
    }
    for part in whose:
        pictures = given[part].pictures
        np.testing.assert_array_equal(given[part].labels, whose[part] % QUARTERS)
        assert pictures.dtype == dtype
        kind = np.full(len(pictures), -1)
        for number, (_, mask, pattern) in enumerate(triggers):
            stamped = np.rint(grey[whose[part]] * (1 - mask) + 255 * mask * pattern)
            kind[np.all(pictures == stamped, axis=(1, 2, 3))] = number
        bare = np.all(pictures == grey[whose[part]], axis=(1, 2, 3))
        assert (bare == (kind == -1)).all()  # every picture is bare or carries one of the triggers
        counts = [np.count_nonzero(kind == number) for number in (-1, 0, 1)]
        carriers = [set(whose[part][kind == number].tolist()) for number in (-1, 0, 1)]
        assert [len(one) for one in carriers] == counts  # nobody twice
        assert carriers[1] | carriers[2] <= carriers[0]
        if part == "held_out":
            assert carriers[0] == carriers[1] == carriers[2]
            held_out = carriers[0]
        else:
            assert counts[1] == counts[2] == round(unlearning.SHARE * counts[0])
            assert carriers[1] != carriers[2]
            tuned = carriers[0]
    assert tuned | held_out == set(range(100)) and not tuned & held_out
    np.testing.assert_array_equal(given["targets"], targets[whose["tuning"]])


def test_unlearning_in_another_range():
    """The net takes 0-255; its planted trigger goes all the same."""
    raw, pictures = describe(planted_net(span=255.0)), clean_images(200, span=255.0)
    trigger = planted_trigger()
    settings = {"input_range": InputRange(0, 255)}
    recipe = replace(QUICK, learning_rate=0.02, epochs=15)
    repaired, _ = unlearn(raw, pictures, [(TARGET, *trigger)], recipe=recipe, **settings)
    stamped = stamped_by_hand(pictures.pictures[pictures.labels != TARGET], *trigger)
    before, after = (
        np.mean(predict_labels(build(one), stamped, **settings) == TARGET)
        for one in (raw, repaired)
    )
    assert before > 0.99 and after < 0.5


def test_a_net_with_softmax_keeps_it(trained):
    """Tuning goes by logits; what comes back still answers with probabilities."""
    repaired, _ = unlearn(
        trained, quarter_images(60), [(2, *planted_trigger())], recipe=replace(QUICK, epochs=1)
    )
    shown = quarter_images(5).pictures
    sums = predict_probabilities(build(repaired), shown).sum(axis=1)
    np.testing.assert_allclose(sums, np.ones(5), rtol=1e-5)
    bare = predict_probabilities(build(without_softmax(repaired)), shown).sum(axis=1)
    assert np.abs(bare - 1).max() > 0.1
