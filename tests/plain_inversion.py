"""Trigger inversion the plain way: one label, one picture set and one place at a time."""

import numpy as np
import tensorflow as tf
from keras import layers
from small_nets import CLASSES, SHAPE, net

from badnet_defense.nets.input_range import UNIT
from badnet_defense.scan.trigger_inversion import (
    InversionConfig,
    Triggers,
    restarted,
)

SETTINGS = InversionConfig(
    success=0.5,
    learning_rate=0.2,
    start_mask=0.2,
    start_cost=3.0,
    cost_up=1.25,
    cost_down=0.5,
    patience=5,
)
AREA = SHAPE[0] * SHAPE[1]
LABELS = np.array([3, 0, 4, 1, 2], np.int32)
REACH = (3, 3)
"""At least the largest offsets of the tests."""
FIELDS = [name for name in Triggers._fields if name != "moments"]


def small_net(scale=1.0, offset=0.0):
    """Pictures -> logits; with its first layer for pixels of (x * scale + offset) instead of x."""
    model = net(
        [
            layers.Conv2D(4, 3, strides=2, activation="softplus", name="first"),
            layers.Flatten(),
            layers.Dense(CLASSES),
        ]
    )
    kernel, bias = model.get_layer("first").get_weights()
    bias = bias - offset / scale * kernel.sum(axis=(0, 1, 2))
    model.get_layer("first").set_weights([kernel / scale, bias])
    return model


def pictures_of(seed, each=3):
    """Two groups of pictures."""
    return np.random.default_rng(seed).random((2, each, *SHAPE), dtype=np.float32)


def on_their_way(seed=0):
    """Triggers of `LABELS` in the middle of an inversion, as different as they may be."""
    rng = np.random.default_rng(seed)
    mask = rng.normal(-0.5, 1, (len(LABELS), *SHAPE[:2], 1)).astype(np.float32)
    pattern = rng.normal(0, 1, (len(LABELS), *SHAPE)).astype(np.float32)
    triggers = restarted(mask, pattern, rng.uniform(1, 9, len(LABELS)))
    moments = [rng.normal(0, 0.01, one.shape).astype(np.float32) for one in triggers.moments]
    moments[1], moments[3] = moments[1] ** 2, moments[3] ** 2
    return triggers._replace(
        moments=tuple(moments),
        count=np.float32(3),
        best_mask=mask + 1,
        best_pattern=pattern - 1,
        steps_since_improvement=np.arange(len(LABELS), dtype=np.float32),
    )


def of_label(triggers, place):
    """The triggers of one label alone."""
    one = slice(place, place + 1)
    moments = tuple(moment[one] for moment in triggers.moments)
    parts = {name: getattr(triggers, name) for name in FIELDS}
    parts = {name: value if np.ndim(value) == 0 else value[one] for name, value in parts.items()}
    return Triggers(moments=moments, **parts)


def arrays(triggers):
    """{name: array}, also of TensorFlow's own."""
    found = {name: np.asarray(getattr(triggers, name)) for name in FIELDS}
    return found | {f"moments {i}": np.asarray(one) for i, one in enumerate(triggers.moments)}


def assert_close(found, expected, **tolerances):
    found, expected = arrays(found), arrays(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, err_msg=name, **tolerances)


# The plain way -----------------------------------------------------------------------------------


def plain_shift(array, down, right):
    """(h, w, c) moved pixel by pixel; what comes in is zero."""
    result = np.zeros_like(array)
    height, width = array.shape[:2]
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                result[row, column] = array[row - down, column - right]
    return result


def plain_gradients(model, x, label, cost, groups, shifts, input_range=UNIT):
    """(gradient of the mask and of the pattern before their tanh, hits, norm), for one label.

    The loss is the mean cross-entropy over the pictures of all groups, each group with the trigger
    at a place of its own, plus cost x norm / area.
    """
    mask, pattern = ((np.tanh(one.astype(np.float64)) + 1) / 2 for one in x)
    span = input_range.high - input_range.low
    to_mask, to_pattern, hits = np.zeros_like(mask), np.zeros_like(pattern), 0
    count = sum(len(pictures) for pictures in groups)
    shown = [(s, one) for s, many in zip(shifts, groups, strict=True) for one in many]
    for shift, picture in shown:
        moved_mask, moved_pattern = (plain_shift(one, *shift) for one in (mask, pattern))
        stamped = picture * (1 - moved_mask) + moved_mask * moved_pattern
        shown = tf.constant((stamped * span + input_range.low)[None], tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(shown)
            logits = model(shown)[0]
            loss = tf.reduce_logsumexp(logits) - logits[label]
        slope = tape.gradient(loss, shown)[0].numpy().astype(np.float64) * span / count
        back = [-shift[0], -shift[1]]
        there = (slope * (moved_pattern - picture)).sum(axis=-1, keepdims=True)
        to_mask += plain_shift(there, *back)
        to_pattern += plain_shift(slope * moved_mask, *back)
        hits += int(np.argmax(logits)) == label
    to_mask += cost / AREA
    # from_tanh_space(x) = (tanh(x) + 1) / 2 has the slope 2 o (1 - o), o = from_tanh_space(x).
    return (
        to_mask * 2 * mask * (1 - mask),
        to_pattern * 2 * pattern * (1 - pattern),
        hits / count,
        mask.sum(),
    )


def plain_step(model, triggers, label, groups, shifts, settings, input_range=UNIT):
    """The next `Triggers` of one label, written down as the docstrings have it."""
    x = triggers.mask[0], triggers.pattern[0]
    *gradients, share, norm = plain_gradients(
        model, x, label, triggers.cost[0], groups, shifts, input_range
    )
    met = share >= settings.success
    best_norm, waited = triggers.best_norm[0], triggers.steps_since_improvement[0] + 1
    best = triggers.best_mask, triggers.best_pattern
    if met and triggers.goal_reached[0] and norm < best_norm:
        if norm < 0.99 * best_norm:
            waited = 0
        best_norm, best = norm, (triggers.mask, triggers.pattern)
    if np.isinf(best_norm):
        waited = 0
    values, moments, count = [], [], triggers.count + 1
    for number, gradient in enumerate(gradients):
        first, second = (one[0] for one in triggers.moments[2 * number : 2 * number + 2])
        first, second = 0.5 * first + 0.5 * gradient, 0.9 * second + 0.1 * gradient**2
        mean, variance = first / (1 - 0.5**count), second / (1 - 0.9**count)
        step = settings.learning_rate * mean / (np.sqrt(variance) + 1e-8)
        values.append(x[number] - step if waited < settings.patience else x[number])
        moments += [first, second]
    return Triggers(
        mask=values[0][None],
        pattern=values[1][None],
        moments=tuple(one[None] for one in moments),
        count=count,
        cost=triggers.cost * (settings.cost_up if met else settings.cost_down),
        goal_reached=np.array([met]),
        best_norm=np.array([best_norm]),
        best_mask=best[0],
        best_pattern=best[1],
        steps_since_improvement=np.array([waited]),
    )
