"""Unlearning found triggers."""

from dataclasses import replace

import numpy as np
import pytest
from backdoored_nets import (
    QUARTERS,
    QUICK,
    accuracy,
    equal,
    quarter_images,
    stamped_by_hand,
    success,
    trained_net,
    weights,
)
from planted_net import SHAPE, TARGET, clean_images, planted_net, planted_trigger

from badnet_defense.nets import build, describe, predict_labels, predict_probabilities
from badnet_defense.nets.graph import without_softmax
from badnet_defense.nets.input_range import InputRange
from badnet_defense.repairs import scan_unlearning as unlearning
from badnet_defense.repairs.scan_unlearning import ScanUnlearningConfig, unlearn
from badnet_defense.repairs.training import Tuning
from badnet_defense.repairs.validated_tuning import validation_split

QUICK_CONFIG = ScanUnlearningConfig(tuning=QUICK)


@pytest.fixture(scope="module")
def trained():
    return trained_net()


def test_the_trained_net_has_a_backdoor(trained):
    fresh = quarter_images(300, seed=8)
    assert accuracy(trained, fresh) > 0.85
    assert success(trained, fresh, planted_trigger(), 2) > 0.9


def test_unlearning_takes_the_trigger_s_success(trained):
    clean, fresh = quarter_images(400), quarter_images(300, seed=8)
    before = [weight.copy() for weight in weights(trained)]
    trigger = planted_trigger()
    repaired, report = unlearn(
        trained, clean, triggers=[(2, *trigger)], config=QUICK_CONFIG, seed=3
    )
    assert success(repaired, fresh, trigger, 2) < 0.3
    assert accuracy(repaired, fresh) > accuracy(trained, fresh) - 0.05
    tuning = report["tuning"]
    assert tuning["kept_epoch"] > 0 and len(tuning["held_out_accuracy"]) == 26
    # Before, half of the held-out pictures carry a trigger that works.
    assert tuning["held_out_accuracy"][0] < 0.75 < max(tuning["held_out_accuracy"])
    for one, other in zip(before, weights(trained), strict=True):
        np.testing.assert_array_equal(one, other)


def test_same_seed_same_unlearning(trained):
    clean, triggers = quarter_images(100), [(2, *planted_trigger())]
    settings = {"config": ScanUnlearningConfig(tuning=replace(QUICK, epochs=1))}
    first, second, other = (
        unlearn(trained, clean, triggers=triggers, seed=seed, **settings)[0] for seed in (1, 1, 2)
    )
    assert equal(first, second) and not equal(first, other)


def test_soft_targets_unlearn_without_labels(trained):
    """The net's own answers to the clean pictures, as soft labels of them and of the copies."""
    clean, fresh = quarter_images(400), quarter_images(300, seed=8)
    targets = predict_probabilities(build(trained), clean.images)
    own = replace(clean, labels=targets.argmax(axis=1))
    trigger = planted_trigger()
    repaired, _ = unlearn(
        trained, own, triggers=[(2, *trigger)], targets=targets, config=QUICK_CONFIG
    )
    assert success(repaired, fresh, trigger, 2) < 0.4
    assert accuracy(repaired, fresh) > accuracy(trained, fresh) - 0.05


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_is_tuned_on_and_chosen_by(trained, monkeypatch, dtype):
    """Picture i is grey i, so that each copy still says whose it is beside its patch."""
    given = {}

    def recorder(spec, tuning, held_out, *, targets, **settings):
        given.update(tuning=tuning, held_out=held_out, targets=targets)
        return spec, Tuning(0, (1.0,), 0)

    monkeypatch.setattr(unlearning, "train", recorder)
    fraction = 0.25 if dtype == np.float32 else 0  # whole numbers are held as bytes
    grey = np.arange(100)[:, None, None, None] + fraction
    grey = np.broadcast_to(grey, (100, *SHAPE)).astype(dtype)
    clean = replace(quarter_images(100), images=grey, labels=np.arange(100) % QUARTERS)
    targets = np.random.default_rng(0).dirichlet(np.ones(QUARTERS), 100)
    triggers = [(2, *planted_trigger(1.0, (0, 0))), (1, *planted_trigger(0.5, (0, 4)))]
    unlearn(trained, clean, triggers=triggers, targets=targets, seed=1)
    whose = {part: given[part].images[:, -1, -1, 0].astype(int) for part in ("tuning", "held_out")}
    for part in whose:
        pictures = given[part].images
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
            assert counts[1] == counts[2] == round(unlearning.FRACTION * counts[0])
            assert carriers[1] != carriers[2]
            tuned = carriers[0]
    untouched = set(validation_split(clean.labels, 1).untouched.tolist())
    assert tuned | held_out == set(range(100)) - untouched and not tuned & held_out
    assert len(untouched) == 8
    np.testing.assert_array_equal(given["targets"], targets[whose["tuning"]])


def test_unlearning_in_another_range():
    """The net takes 0-255; its planted trigger goes all the same."""
    settings = {"input_range": InputRange(0, 255)}
    raw = describe(planted_net(span=255.0)).with_range(settings["input_range"])
    pictures = clean_images(200, span=255.0)
    trigger = planted_trigger()
    recipe = replace(QUICK, learning_rate=0.02, epochs=15)
    repaired, _ = unlearn(
        raw,
        pictures,
        triggers=[(TARGET, *trigger)],
        config=ScanUnlearningConfig(tuning=recipe),
    )
    stamped = stamped_by_hand(pictures.images[pictures.labels != TARGET], *trigger)
    before, after = (
        np.mean(predict_labels(build(one), stamped, **settings) == TARGET)
        for one in (raw, repaired)
    )
    assert before > 0.99 and after < 0.5


def test_a_net_with_softmax_keeps_it(trained):
    """Tuning goes by logits; what comes back still answers with probabilities."""
    repaired, _ = unlearn(
        trained,
        quarter_images(60),
        triggers=[(2, *planted_trigger())],
        config=ScanUnlearningConfig(tuning=replace(QUICK, epochs=1)),
    )
    shown = quarter_images(5).images
    sums = predict_probabilities(build(repaired), shown).sum(axis=1)
    np.testing.assert_allclose(sums, np.ones(5), rtol=1e-5)
    bare = predict_probabilities(build(without_softmax(repaired)), shown).sum(axis=1)
    assert np.abs(bare - 1).max() > 0.1
