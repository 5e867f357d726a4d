"""Trigger inversion: the smallest mask and pattern that send clean pictures to a label.

Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks", IEEE
S&P 2019. Departures from it, each for speed or for sharper scores:

- Many labels at once in one compiled step, on the same pictures.
- At each step the trigger is stamped a few pixels off, at several places, each on a group of the
  pictures (expectation over transformations, Athalye et al., ICML 2018). A real trigger still works
  there, since it was trained on faces that are never quite in place; a pattern of adversarial noise
  does not, and has to grow.
- Masks and patterns may be smoothed before they are stamped, as worn things are and adversarial
  noise is not (what TABOR, Guo et al. 2019, asks of its masks by a penalty).
- The weight of the mask's norm changes a little at every step, up where the goal is met and down
  where it is not, instead of by half after some epochs.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from badnet_defense.nets.answers import classes_of
from badnet_defense.nets.backend import compiled, forward, value_and_gradients
from badnet_defense.nets.input_range import UNIT

_FIRST_DECAY, _SECOND_DECAY, _TINY = 0.5, 0.9, 1e-8


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """How triggers are inverted.

    Args:
        success: share of the pictures that a trigger has to send to its label, in (0, 1].
        learning_rate: of Adam, on the masks and patterns before their tanh.
        start_mask: the masks' opacity at the start, everywhere, in (0, 1).
        start_cost: weight of the masked share of the picture (the L1 norm over the area) at first.
        dearer, cheaper: factors on that weight after a step that met the goal, and one that didn't.
        patience: a label that has met its goal stops once its norm has not fallen by a hundredth in
            so many steps.
    """

    success: float = 0.99
    learning_rate: float = 0.3
    start_mask: float = 0.1
    start_cost: float = 25.0
    dearer: float = 1.1
    cheaper: float = 0.8
    patience: int = 40


class Triggers(NamedTuple):
    """Triggers of L labels on their way; arrays, so that they can be stored and taken up again.

    Attributes:
        mask: (L, h, w, 1) masks before their tanh.
        pattern: (L, h, w, c) patterns before their tanh.
        moments: Adam's (first, second) moments of `mask`, then of `pattern`.
        count: () steps that the moments have seen.
        cost: (L,) weights of the norms.
        met: (L,) True where the last step met the goal.
        best_norm: (L,) the smallest L1 norm, in pixels, that met the goal twice running; inf for
            none yet.
        best_mask, best_pattern: what had it, before their tanh.
        waited: (L,) steps since `best_norm` last fell by a hundredth; 0 while there is none.
    """

    mask: Any
    pattern: Any
    moments: Any
    count: Any
    cost: Any
    met: Any
    best_norm: Any
    best_mask: Any
    best_pattern: Any
    waited: Any


def new_triggers(labels, shape, settings, *, seed=0):
    """Faint masks and random patterns for `labels`; each label's own depend on it and `seed` alone.

    Args:
        labels: class numbers.
        shape: (h, w, c) of the pictures.
        settings: an `Inversion`.
        seed: of the patterns.
    """
    height, width, _ = shape
    flat = np.arctanh(2 * settings.start_mask - 1)
    mask = np.full((len(labels), height, width, 1), flat, np.float32)
    patterns = [np.random.default_rng((seed, label)).uniform(-1, 1, shape) for label in labels]
    pattern = np.arctanh(0.99 * np.stack(patterns)).astype(np.float32)
    cost = np.full(len(labels), settings.start_cost, np.float32)
    return restarted(mask, pattern, cost)


def restarted(mask, pattern, cost):
    """`Triggers` that go on from masks and patterns, with nothing else remembered."""
    return Triggers(
        mask=mask,
        pattern=pattern,
        moments=tuple(np.zeros_like(one) for one in (mask, mask, pattern, pattern)),
        count=np.float32(0),
        cost=np.asarray(cost, np.float32),
        met=np.zeros(len(mask), bool),
        best_norm=np.full(len(mask), np.inf, np.float32),
        best_mask=mask,
        best_pattern=pattern,
        waited=np.zeros(len(mask), np.float32),
    )


def opened(array, blur=(0, 0)):
    """Masks or patterns as they are stamped, in [0, 1], from those before their tanh.

    Args:
        array: (L, h, w, c).
        blur: as for `compiled_step`.
    """
    return np.asarray(_smoothed((np.tanh(array) + 1) / 2, blur))


def _smoothed(array, blur):
    """(L, h, w, c) with each pixel the mean of those around it that are there."""
    from keras import ops

    size = tuple(2 * pixels + 1 for pixels in blur)
    return array if size == (1, 1) else ops.average_pool(array, size, 1, "same", "channels_last")


def compiled_step(net, settings, *, reach, blur=(0, 0), input_range=UNIT):
    """One step of Adam for many labels at once, as a compiled function.

    Args:
        net: `keras.Model`, pictures (n, h, w, c) in `input_range` -> logits (n, classes). Logits,
            not probabilities: a sure net's softmax has no gradient left.
        settings: an `Inversion`.
        reach: (down, right), the largest offsets in pixels.
        blur: (down, right), pixels to each side that masks and patterns are smoothed over.
        input_range: the net's range.

    Returns:
        `step(triggers, labels, pictures, offsets)` -> `Triggers`, with `labels` (L,) `int32`,
        `pictures` (g, n, h, w, c) `float32` in [0, 1], g groups of n, and `offsets` (g, 2) `int32`,
        the pixels by which the triggers are stamped further down and right on each group.
    """
    from keras import ops

    low, span = np.float32(input_range.low), np.float32(input_range.high - input_range.low)
    shape = net.input_shape[1:]
    weights, answers = forward(net)

    def logits_of(state, mask, pattern, pictures, offsets):
        mask, pattern = ops.map(lambda one: moved(mask, pattern, one, reach), offsets)
        mask, pattern = mask[:, :, None], pattern[:, :, None]
        # Brought into the net's range while they are few; it is the same afterwards.
        pictures, pattern = (one * span + low for one in (pictures, pattern))
        stamped = pictures[:, None] * (1 - mask) + mask * pattern
        logits = answers(state, ops.reshape(stamped, (-1, *shape)))
        by_place = ops.reshape(logits, (*ops.shape(stamped)[:3], logits.shape[-1]))
        by_label = ops.transpose(by_place, (1, 0, 2, 3))
        return ops.reshape(by_label, (ops.shape(by_label)[0], -1, logits.shape[-1]))

    def step(state, triggers, labels, pictures, offsets):
        groups, each = ops.shape(pictures)[:2]
        targets = ops.tile(labels[:, None], (1, groups * each))

        def loss(mask, pattern):
            mask, pattern = (_smoothed(ops.tanh(one) / 2 + 0.5, blur) for one in (mask, pattern))
            logits = logits_of(state, mask, pattern, pictures, offsets)
            losses = ops.sparse_categorical_crossentropy(targets, logits, from_logits=True)
            norm = ops.sum(mask, axis=(1, 2, 3))
            area = np.float32(np.prod(shape[:2]))
            # Labels share nothing, so the sum's gradient is each label's own.
            total = ops.sum(ops.mean(losses, axis=1) + triggers.cost * norm / area)
            return total, (logits, norm)

        (_, (logits, norm)), gradients = value_and_gradients(
            loss, (triggers.mask, triggers.pattern)
        )
        hits = ops.cast(ops.equal(classes_of(ops, logits), targets), "float32")
        judged = _judged(triggers, ops.mean(hits, axis=1) >= settings.success, norm, settings)
        return _adam(judged, gradients, settings.learning_rate, judged.waited < settings.patience)

    run = compiled(step, _signature(net, weights()))
    return lambda *given: run(weights(), *given)


def _signature(net, weights):
    """What `compiled` takes for TensorFlow: (shape, dtype) of all that a step is given."""
    height, width, channels = net.input_shape[1:]
    masks = ((None, height, width, 1), "float32")
    pictures = ((None, height, width, channels), "float32")
    each, flag = ((None,), "float32"), ((None,), "bool")
    moments = (masks, masks, pictures, pictures)
    count = ((), "float32")
    triggers = Triggers(masks, pictures, moments, count, each, flag, each, masks, pictures, each)
    groups = ((None, *pictures[0]), "float32")
    return weights, triggers, ((None,), "int32"), groups, ((None, 2), "int32")


def _judged(triggers, met, norm, settings):
    """Best triggers, costs and patience after a step, before the masks and patterns change."""
    from keras import ops

    # One batch that meets the goal may be luck; two running, at other places, hardly are.
    going = triggers.waited < settings.patience
    better = going & met & triggers.met & (norm < triggers.best_norm)
    much = better & (norm < 0.99 * triggers.best_norm)
    found = better | ops.isfinite(triggers.best_norm)

    def chosen(new, old):
        return ops.where(ops.reshape(better, (-1, 1, 1, 1)), new, old)

    change = ops.where(met, np.float32(settings.dearer), np.float32(settings.cheaper))
    return triggers._replace(
        met=met,
        cost=triggers.cost * ops.where(going, change, np.float32(1)),
        best_norm=ops.where(better, norm, triggers.best_norm),
        best_mask=chosen(triggers.mask, triggers.best_mask),
        best_pattern=chosen(triggers.pattern, triggers.best_pattern),
        waited=ops.where(much | ~found, np.float32(0), triggers.waited + 1),
    )


def _adam(triggers, gradients, rate, going):
    """One step of Adam (Kingma and Ba, ICLR 2015) for the labels that are still `going`."""
    from keras import ops

    going = ops.cast(ops.reshape(going, (-1, 1, 1, 1)), "float32")
    count = triggers.count + 1
    values, moments = [], []
    for index, gradient in enumerate(gradients):
        first, second = triggers.moments[2 * index : 2 * index + 2]
        first = _FIRST_DECAY * first + (1 - _FIRST_DECAY) * gradient
        second = _SECOND_DECAY * second + (1 - _SECOND_DECAY) * gradient**2
        mean = first / (1 - _FIRST_DECAY**count)
        scale = (second / (1 - _SECOND_DECAY**count)) ** 0.5
        values.append(triggers[index] - going * rate * mean / (scale + _TINY))
        moments += [first, second]
    mask, pattern = values
    return triggers._replace(mask=mask, pattern=pattern, moments=tuple(moments), count=count)


def moved(mask, pattern, offset, reach):
    """Masks and patterns moved by `offset` pixels down and right; what comes in is empty.

    Args:
        mask: (L, h, w, 1).
        pattern: (L, h, w, c).
        offset: (2,) `int32`, may be a tensor.
        reach: (down, right), the largest offsets; plain numbers.
    """
    from keras import ops

    both = ops.concatenate([mask, pattern], axis=-1)
    padded = ops.pad(both, [[0, 0], *([one, one] for one in reach), [0, 0]])
    start = ops.pad(np.array(reach, np.int32) - offset, [[1, 1]])
    both = ops.slice(padded, start, ops.shape(both))
    return both[..., :1], both[..., 1:]
