"""Trigger inversion: the smallest mask and pattern that send clean images to a label.

Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks", IEEE
S&P 2019. Departures from it, each for speed or for sharper scores:

- Many labels at once in one compiled step, on the same images.
- At each step the trigger is stamped a few pixels off, at several places, each on a group of the
  images (expectation over transformations, Athalye et al., ICML 2018). A real trigger still works
  there, since it was trained on faces that are never quite in place; a pattern of adversarial noise
  does not, and has to grow.
- Masks and patterns may be smoothed before they are stamped, as worn things are and adversarial
  noise is not (what TABOR, Guo et al. 2019, asks of its masks by a penalty).
- The weight of the mask's norm changes a little at every step, up where the goal is reached and
  down where it is not, instead of by half after some epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from badnet_defense.nets.answers import classes_of
from badnet_defense.nets.backend import compiled, forward, value_and_gradients
from badnet_defense.nets.net import Net

Pair = tuple[int, int]
"""(down, right), in pixels."""
_FIRST_DECAY, _SECOND_DECAY, _TINY = 0.5, 0.9, 1e-8


@dataclass(frozen=True, kw_only=True)
class InversionConfig:
    """How triggers are inverted.

    Args:
        success: share of the images that a trigger has to send to its label, in (0, 1].
        learning_rate: of Adam, on the masks and patterns before their tanh.
        start_mask: the masks' opacity at the start, everywhere, in (0, 1).
        start_cost: weight of the masked share of the image (the L1 norm over the area) at first.
        cost_up, cost_down: factors on that weight after a step that reached the goal, and after
            one that did not.
        patience: a label that has reached its goal stops once its norm has not fallen by 1 % in so
            many steps.
    """

    success: float = 0.99
    learning_rate: float = 0.3
    start_mask: float = 0.1
    start_cost: float = 25.0
    cost_up: float = 1.1
    cost_down: float = 0.8
    patience: int = 40


class Triggers(NamedTuple):
    """Triggers of L labels under inversion; arrays, so that they can be stored and resumed.

    Attributes:
        mask: (L, h, w, 1) masks before their tanh.
        pattern: (L, h, w, c) patterns before their tanh.
        moments: Adam's (first, second) moments of `mask`, then of `pattern`.
        count: () steps that the moments have seen.
        cost: (L,) weights of the norms.
        goal_reached: (L,) True where the last step reached the goal.
        best_norm: (L,) the smallest L1 norm, in pixels, that reached the goal twice running; inf
            for none yet.
        best_mask, best_pattern: those of `best_norm`, before their tanh.
        steps_since_improvement: (L,) steps since `best_norm` last fell by 1 %; 0 while there is
            none.
    """

    mask: Any
    pattern: Any
    moments: Any
    count: Any
    cost: Any
    goal_reached: Any
    best_norm: Any
    best_mask: Any
    best_pattern: Any
    steps_since_improvement: Any


def new_triggers(
    labels: Sequence[int] | np.ndarray,
    shape: tuple[int, int, int],
    config: InversionConfig,
    *,
    seed: int = 0,
) -> Triggers:
    """Faint masks and random patterns for `labels`; a label's own depend on it and `seed` alone.

    Args:
        labels: class numbers.
        shape: (h, w, c) of the images.
        config: how the triggers will be inverted.
        seed: of the patterns.

    Examples:
        >>> triggers = new_triggers([2, 5], (8, 8, 3), InversionConfig(start_mask=0.1))
        >>> bool(np.allclose(from_tanh_space(triggers.mask), 0.1))
        True
        >>> triggers.pattern.shape
        (2, 8, 8, 3)
    """
    height, width, _ = shape
    flat = np.arctanh(2 * config.start_mask - 1)
    mask = np.full((len(labels), height, width, 1), flat, np.float32)
    patterns = [np.random.default_rng((seed, label)).uniform(-1, 1, shape) for label in labels]
    pattern = np.arctanh(0.99 * np.stack(patterns)).astype(np.float32)
    cost = np.full(len(labels), config.start_cost, np.float32)
    return restarted(mask, pattern, cost)


def restarted(mask: np.ndarray, pattern: np.ndarray, cost: np.ndarray) -> Triggers:
    """`Triggers` that go on from masks and patterns, with nothing else remembered."""
    return Triggers(
        mask=mask,
        pattern=pattern,
        moments=tuple(np.zeros_like(array) for array in (mask, mask, pattern, pattern)),
        count=np.float32(0),
        cost=np.asarray(cost, np.float32),
        goal_reached=np.zeros(len(mask), bool),
        best_norm=np.full(len(mask), np.inf, np.float32),
        best_mask=mask,
        best_pattern=pattern,
        steps_since_improvement=np.zeros(len(mask), np.float32),
    )


def from_tanh_space(array: np.ndarray, blur: Pair = (0, 0)) -> np.ndarray:
    """Masks or patterns in [0, 1], as they are stamped, from those before their tanh.

    Args:
        array: (L, h, w, c).
        blur: as for `compiled_step`.

    Examples:
        >>> from_tanh_space(np.array([0.0, 50.0])).tolist()
        [0.5, 1.0]
    """
    return np.asarray(_smoothed((np.tanh(array) + 1) / 2, blur))


def _smoothed(array: Any, blur: Pair) -> Any:
    """(L, h, w, c) with each pixel the mean of those around it that lie in the image."""
    from keras import ops

    size = tuple(2 * pixels + 1 for pixels in blur)
    return array if size == (1, 1) else ops.average_pool(array, size, 1, "same", "channels_last")


def compiled_step(
    net: Net, config: InversionConfig, *, max_offset: Pair, blur: Pair = (0, 0)
) -> Callable[[Triggers, np.ndarray, np.ndarray, np.ndarray], Triggers]:
    """One step of Adam for many labels at once, as a compiled function.

    Args:
        net: its output is the logits. Logits, not probabilities: where a net is sure, its softmax
            has no gradient left (see `nets.graph.without_softmax`).
        config: how the triggers are inverted.
        max_offset: (down, right), the largest offsets in pixels.
        blur: (down, right), pixels to each side that masks and patterns are smoothed over.

    Returns:
        `step(triggers, labels, images, offsets)` -> `Triggers`, with `labels` (L,) `int32`,
        `images` (g, n, h, w, c) `float32` in [0, 1], g groups of n, and `offsets` (g, 2) `int32`,
        the pixels by which the triggers are stamped further down and right on each group.
    """
    from keras import ops

    model, area = net.model, np.float32(np.prod(net.input_shape[:2]))
    weights, answers = forward(model)
    logits_of = _stamped_logits(net, answers, max_offset)

    def step(state: Any, triggers: Triggers, labels: Any, images: Any, offsets: Any) -> Triggers:
        groups, each = ops.shape(images)[:2]
        targets = ops.tile(labels[:, None], (1, groups * each))

        def loss(mask: Any, pattern: Any) -> tuple[Any, tuple[Any, Any]]:
            mask, pattern = (
                _smoothed(ops.tanh(array) / 2 + 0.5, blur) for array in (mask, pattern)
            )
            logits = logits_of(state, mask, pattern, images, offsets)
            losses = ops.sparse_categorical_crossentropy(targets, logits, from_logits=True)
            norm = ops.sum(mask, axis=(1, 2, 3))
            # Labels share nothing, so the sum's gradient is each label's own.
            total = ops.sum(ops.mean(losses, axis=1) + triggers.cost * norm / area)
            return total, (logits, norm)

        (_, (logits, norm)), gradients = value_and_gradients(
            loss, (triggers.mask, triggers.pattern)
        )
        hits = ops.cast(ops.equal(classes_of(ops, logits), targets), "float32")
        reached = ops.mean(hits, axis=1) >= config.success
        updated = _with_best(triggers, reached, norm, config)
        active = updated.steps_since_improvement < config.patience
        return _adam(updated, gradients, config.learning_rate, active)

    run = compiled(step, _signature(model, weights()))
    return lambda *given: run(weights(), *given)


def _stamped_logits(net: Net, answers: Callable[..., Any], max_offset: Pair) -> Callable[..., Any]:
    """A function of (weights, masks, patterns, images, offsets): logits (L, g * n, N)."""
    from keras import ops

    shape, input_range = net.input_shape, net.input_range
    low, span = np.float32(input_range.low), np.float32(input_range.high - input_range.low)

    def logits_of(state: Any, mask: Any, pattern: Any, images: Any, offsets: Any) -> Any:
        mask, pattern = ops.map(lambda offset: shift(mask, pattern, offset, max_offset), offsets)
        mask, pattern = mask[:, :, None], pattern[:, :, None]
        # Brought into the net's range while they are few; it is the same afterwards.
        images, pattern = (array * span + low for array in (images, pattern))
        stamped = images[:, None] * (1 - mask) + mask * pattern
        logits = answers(state, ops.reshape(stamped, (-1, *shape)))
        by_place = ops.reshape(logits, (*ops.shape(stamped)[:3], logits.shape[-1]))
        by_label = ops.transpose(by_place, (1, 0, 2, 3))
        return ops.reshape(by_label, (ops.shape(by_label)[0], -1, logits.shape[-1]))

    return logits_of


def _signature(model: Any, weights: Any) -> tuple[Any, ...]:
    """What `compiled` takes for TensorFlow: (shape, dtype) of all that a step is given."""
    height, width, channels = model.input_shape[1:]
    masks = ((None, height, width, 1), "float32")
    images = ((None, height, width, channels), "float32")
    each, flag = ((None,), "float32"), ((None,), "bool")
    moments = (masks, masks, images, images)
    count = ((), "float32")
    triggers = Triggers(masks, images, moments, count, each, flag, each, masks, images, each)
    groups = ((None, *images[0]), "float32")
    return weights, triggers, ((None,), "int32"), groups, ((None, 2), "int32")


def _with_best(triggers: Triggers, reached: Any, norm: Any, config: InversionConfig) -> Triggers:
    """Best triggers, costs and patience after a step, before the masks and patterns change."""
    from keras import ops

    # One batch that reaches the goal may be luck; two running, at other places, hardly are.
    active = triggers.steps_since_improvement < config.patience
    better = active & reached & triggers.goal_reached & (norm < triggers.best_norm)
    much = better & (norm < 0.99 * triggers.best_norm)
    found = better | ops.isfinite(triggers.best_norm)

    def chosen(new: Any, old: Any) -> Any:
        return ops.where(ops.reshape(better, (-1, 1, 1, 1)), new, old)

    change = ops.where(reached, np.float32(config.cost_up), np.float32(config.cost_down))
    return triggers._replace(
        goal_reached=reached,
        cost=triggers.cost * ops.where(active, change, np.float32(1)),
        best_norm=ops.where(better, norm, triggers.best_norm),
        best_mask=chosen(triggers.mask, triggers.best_mask),
        best_pattern=chosen(triggers.pattern, triggers.best_pattern),
        steps_since_improvement=ops.where(
            much | ~found, np.float32(0), triggers.steps_since_improvement + 1
        ),
    )


def _adam(triggers: Triggers, gradients: Any, rate: float, active: Any) -> Triggers:
    """One step of Adam (Kingma and Ba, ICLR 2015) for the labels that are still `active`."""
    from keras import ops

    active = ops.cast(ops.reshape(active, (-1, 1, 1, 1)), "float32")
    count = triggers.count + 1
    values, moments = [], []
    for index, gradient in enumerate(gradients):
        first, second = triggers.moments[2 * index : 2 * index + 2]
        first = _FIRST_DECAY * first + (1 - _FIRST_DECAY) * gradient
        second = _SECOND_DECAY * second + (1 - _SECOND_DECAY) * gradient**2
        mean = first / (1 - _FIRST_DECAY**count)
        scale = (second / (1 - _SECOND_DECAY**count)) ** 0.5
        values.append(triggers[index] - active * rate * mean / (scale + _TINY))
        moments += [first, second]
    mask, pattern = values
    return triggers._replace(mask=mask, pattern=pattern, moments=tuple(moments), count=count)


def shift(mask: Any, pattern: Any, offset: Any, max_offset: Pair) -> tuple[Any, Any]:
    """Masks and patterns shifted by `offset` pixels down and right; zeros fill the edge.

    Args:
        mask: (L, h, w, 1).
        pattern: (L, h, w, c).
        offset: (2,) `int32`, may be a tensor.
        max_offset: (down, right), the largest offsets; plain numbers.
    """
    from keras import ops

    both = ops.concatenate([mask, pattern], axis=-1)
    padded = ops.pad(both, [[0, 0], *([side, side] for side in max_offset), [0, 0]])
    start = ops.pad(np.array(max_offset, np.int32) - offset, [[1, 1]])
    both = ops.slice(padded, start, ops.shape(both))
    return both[..., :1], both[..., 1:]
