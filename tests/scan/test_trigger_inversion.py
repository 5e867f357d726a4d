"""One step of trigger inversion, against plain loops over labels and pictures."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from plain_inversion import (
    LABELS,
    REACH,
    SETTINGS,
    assert_close,
    of_label,
    on_their_way,
    pictures_of,
    plain_gradients,
    plain_step,
    small_net,
)
from small_nets import CLASSES, SHAPE

from badnet_defense.nets import describe
from badnet_defense.nets.input_range import InputRange
from badnet_defense.scan.trigger_inversion import compiled_step, from_tanh_space, new_triggers

# The start ---------------------------------------------------------------------------------------


def test_new_triggers_are_faint_masks_and_random_patterns():
    triggers = new_triggers([2, 9], SHAPE, SETTINGS)
    np.testing.assert_allclose(
        from_tanh_space(triggers.mask), np.full((2, *SHAPE[:2], 1), 0.2), rtol=1e-5
    )
    patterns = from_tanh_space(triggers.pattern)
    assert patterns.shape == (2, *SHAPE)
    assert 0 < patterns.min() < 0.1 and 0.9 < patterns.max() < 1
    assert abs(patterns.mean() - 0.5) < 0.03
    np.testing.assert_array_equal(triggers.cost, [3, 3])
    assert np.isinf(triggers.best_norm).all() and not triggers.goal_reached.any()
    assert not any(one.any() for one in triggers.moments)


def test_new_triggers_depend_on_label_and_seed_alone():
    many = new_triggers(np.array([5, 0, 7]), SHAPE, SETTINGS, seed=4)
    for place, label in enumerate([5, 0, 7]):
        alone = new_triggers([label], SHAPE, SETTINGS, seed=4)
        assert_close(of_label(many, place), alone, rtol=0)
    first, other = many.pattern[:2]
    assert np.abs(first - other).mean() > 0.3
    assert np.abs(new_triggers([5], SHAPE, SETTINGS, seed=5).pattern[0] - first).mean() > 0.3


# The step ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return small_net()


@pytest.fixture(scope="module")
def step(model):
    return compiled_step(describe(model), SETTINGS, max_offset=REACH)


def mixed_case(model, pictures, offsets):
    """(triggers, shares of pictures that they send to their labels, norms), the plain way."""
    triggers = on_their_way()
    seen = [
        plain_gradients(model, (triggers.mask[i], triggers.pattern[i]), label, 1, pictures, offsets)
        for i, label in enumerate(LABELS)
    ]
    shares = np.array([share for *_, share, _ in seen])
    norms = np.array([norm for *_, norm in seen])
    return triggers, shares, norms


@pytest.mark.parametrize("offsets", [[(0, 0), (0, 0)], [(-2, 1), (0, 2)], [(2, -2), (-1, 0)]])
def test_step_is_adam_on_the_documented_loss(model, step, offsets):
    pictures = pictures_of(1)
    triggers, shares, norms = mixed_case(model, pictures, offsets)
    assert 0 < np.count_nonzero(shares >= SETTINGS.success) < len(LABELS)
    triggers = triggers._replace(
        goal_reached=np.ones(len(LABELS), bool), best_norm=(norms * 1.5).astype(np.float32)
    )
    found = step(triggers, LABELS, pictures, np.array(offsets, np.int32))
    for place, label in enumerate(LABELS):
        one = of_label(triggers, place)
        expected = plain_step(model, one, label, pictures, offsets, SETTINGS)
        assert_close(of_label(found, place), expected, rtol=2e-3, atol=2e-5)
        assert np.abs(np.asarray(found.mask)[place] - one.mask[0]).max() > 0.01


def test_best_cost_and_patience(model, step):
    """All histories that a label may have, for labels that meet the goal and ones that don't."""
    pictures, offsets = pictures_of(1), [(0, 0), (1, -1)]
    triggers, shares, norms = mixed_case(model, pictures, offsets)
    meets = shares >= SETTINGS.success
    for before in (False, True):
        for factor in (0.9, 1.005, 1.05, np.inf):  # of the norm now: best so far
            for waited in (0.0, SETTINGS.patience - 1.0):
                now = triggers._replace(
                    goal_reached=np.full(len(LABELS), before),
                    best_norm=(norms * factor).astype(np.float32),
                    steps_since_improvement=np.full(len(LABELS), waited, np.float32),
                )
                found = step(now, LABELS, pictures, np.array(offsets, np.int32))
                better = meets & before & (factor > 1)
                much = better & (factor > 1.02)
                np.testing.assert_array_equal(found.goal_reached, meets)
                np.testing.assert_allclose(
                    found.cost, triggers.cost * np.where(meets, 1.25, 0.5), rtol=1e-6
                )
                best = np.where(better, norms, norms * factor)
                np.testing.assert_allclose(found.best_norm, best, rtol=1e-5)
                again = much | np.isinf(best)  # patience is for those that have a trigger
                np.testing.assert_array_equal(
                    found.steps_since_improvement, np.where(again, 0, waited + 1)
                )
                moves = (np.asarray(found.mask) != triggers.mask).any(axis=(1, 2, 3))
                np.testing.assert_array_equal(moves, again | (waited == 0))
                for place in range(len(LABELS)):
                    kept = triggers.mask if better[place] else triggers.best_mask
                    np.testing.assert_array_equal(found.best_mask[place], kept[place])
                    kept = triggers.pattern if better[place] else triggers.best_pattern
                    np.testing.assert_array_equal(found.best_pattern[place], kept[place])


def test_several_steps_from_the_start(model, step):
    """Moments, costs and counts go on from step to step as they do in the plain way."""
    found = new_triggers(LABELS, SHAPE, SETTINGS, seed=1)
    plain = [of_label(found, place) for place in range(len(LABELS))]
    cases = [[(0, 0), (1, 1)], [(-1, 2), (0, 0)], [(-2, -2), (2, 0)]]
    for number, offsets in enumerate(cases):
        pictures = pictures_of(number, 2)
        found = step(found, LABELS, pictures, np.array(offsets, np.int32))
        for place, label in enumerate(LABELS):
            plain[place] = plain_step(model, plain[place], label, pictures, offsets, SETTINGS)
    for place, expected in enumerate(plain):
        assert_close(of_label(found, place), expected, rtol=5e-3, atol=2e-4)
    assert len(set(np.asarray(found.goal_reached).tolist())) == 2  # else the case proves little


def test_labels_do_not_influence_each_other(step):
    """Alone and beside other triggers, a label's next trigger is the same."""
    pictures, offsets = pictures_of(2), np.array([[1, 3], [0, -2]], np.int32)
    triggers = on_their_way()
    together = step(triggers, LABELS, pictures, offsets)
    for place in range(len(LABELS)):
        alone = step(of_label(triggers, place), LABELS[place : place + 1], pictures, offsets)
        assert_close(of_label(together, place), alone, rtol=1e-3, atol=1e-5)
    others = on_their_way(seed=9)
    for name in ("mask", "pattern", "cost", "steps_since_improvement"):
        getattr(others, name)[2] = getattr(triggers, name)[2]
    for mine, theirs in zip(triggers.moments, others.moments, strict=True):
        theirs[2] = mine[2]
    beside = step(others, LABELS, pictures, offsets)
    for name in ("mask", "pattern"):
        found, expected = (np.asarray(getattr(one, name))[2] for one in (beside, together))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_a_label_whose_patience_is_over_changes_no_more(model, step):
    """Labels 3 and 4 wait for longer than their patience; the others go on beside them."""
    triggers = new_triggers(LABELS, SHAPE, replace(SETTINGS, start_mask=0.05), seed=2)
    waited = np.where(np.isin(LABELS, [3, 4]), SETTINGS.patience, 0).astype(np.float32)
    triggers = triggers._replace(
        steps_since_improvement=waited, best_norm=np.full(len(LABELS), 0.1, np.float32)
    )
    found = triggers
    for number in range(4):
        found = step(found, LABELS, pictures_of(number), np.array([[number, 2]] * 2, np.int32))
    for place, label in enumerate(LABELS):
        for name in ("mask", "pattern"):
            before, after = getattr(triggers, name)[place], np.asarray(getattr(found, name))[place]
            assert (before == after).all() == (label in (3, 4))
    over = np.asarray(found.steps_since_improvement) >= SETTINGS.patience
    np.testing.assert_array_equal(over, np.isin(LABELS, [3, 4]))


@pytest.mark.parametrize("low_high", [(0, 255), (-1, 1)])
def test_net_for_another_range_takes_the_same_step(step, low_high):
    input_range = InputRange(*low_high)
    other = small_net(scale=input_range.high - input_range.low, offset=input_range.low)
    other_step = compiled_step(describe(other, input_range), SETTINGS, max_offset=REACH)
    pictures, offsets = pictures_of(3), np.array([[3, 0], [-1, 0]], np.int32)
    expected = step(on_their_way(), LABELS, pictures, offsets)
    found = other_step(on_their_way(), LABELS, pictures, offsets)
    assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_step_does_not_train_the_net(model, step):
    before = [weight.copy() for weight in model.get_weights()]
    step(on_their_way(), LABELS, pictures_of(4), np.zeros((2, 2), np.int32))
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_net_is_asked_as_it_answers_pictures():
    """Dropout rests and batch normalisation keeps its own means while triggers are inverted."""
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.9, seed=1),
            layers.Dense(CLASSES),
        ]
    )
    before = [weight.copy() for weight in model.get_weights()]
    step = compiled_step(describe(model), SETTINGS, max_offset=REACH)
    pictures, offsets = pictures_of(5), np.zeros((2, 2), np.int32)
    first, second = (step(on_their_way(), LABELS, pictures, offsets) for _ in range(2))
    assert_close(first, second, rtol=0)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    expected = plain_step(model, of_label(on_their_way(), 1), 0, pictures, offsets, SETTINGS)
    assert_close(of_label(first, 1), expected, rtol=2e-3, atol=2e-5)


def test_a_step_judges_smooth_triggers_as_they_are_stamped(model):
    """Norms and hits are those of the smoothed triggers, and a step makes their loss smaller."""
    smooth = compiled_step(describe(model), SETTINGS, max_offset=REACH, blur=(2, 1))
    pictures, offsets = pictures_of(1), np.zeros((2, 2), np.int32)
    triggers = on_their_way()._replace(
        goal_reached=np.ones(len(LABELS), bool),
        best_norm=np.full(len(LABELS), 1e4, np.float32),
        steps_since_improvement=np.zeros(len(LABELS), np.float32),
        cost=np.zeros(len(LABELS), np.float32),
    )
    found = smooth(triggers, LABELS, pictures, offsets)

    def losses(state):
        masks, patterns = (
            from_tanh_space(state.mask, (2, 1)),
            from_tanh_space(state.pattern, (2, 1)),
        )
        shown = pictures.reshape(-1, *SHAPE)
        stamped = [shown * (1 - m) + m * p for m, p in zip(masks, patterns, strict=True)]
        logits = np.stack([model(one).numpy() for one in stamped])
        hits = (logits.argmax(axis=-1) == LABELS[:, None]).mean(axis=1)
        own = np.take_along_axis(logits, LABELS[:, None, None], axis=2)[..., 0]
        return (tf.reduce_logsumexp(logits, axis=-1).numpy() - own).mean(axis=1), hits, masks

    before, hits, masks = losses(triggers)
    np.testing.assert_array_equal(found.goal_reached, hits >= SETTINGS.success)
    norms = np.where(found.goal_reached, masks.sum(axis=(1, 2, 3)), 1e4)
    np.testing.assert_allclose(found.best_norm, norms, rtol=1e-5)
    assert found.goal_reached.numpy().any()
    assert (losses(found)[0] < before)[before > 0.1].all()
