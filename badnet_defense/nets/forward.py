"""A net's answers in NumPy alone, as Keras gives them on TensorFlow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from badnet_defense.nets.answers import classes_of
from badnet_defense.nets.arithmetic import flushed, flushing
from badnet_defense.nets.layers import SCHEMAS
from badnet_defense.nets.net import Net
from badnet_defense.nets.shapes import images_at_once

_AT_ONCE = 32
_RELATIVE, _ABSOLUTE = 2.0**-20, 1e-30
"""How far each result on the way is moved to see whether an answer hangs on it: eight times what
`float32` rounds, and a trifle that no trained net's numbers come near."""


def forward(
    net: Net, images: np.ndarray, *, after: Callable[[np.ndarray], np.ndarray] | None = None
) -> np.ndarray:
    """Class probabilities (n, classes) of `float32` images (n, h, w, c).

    Args:
        net: the net (`Net`).
        images: in the net's range; as many go through it at once as memory allows.
        after: what is done to the images and to the result of each call: an array (n, ..) -> the
            same shape.
    """
    return _in_batches(net, images, lambda batch: _batch(net, batch, after))


def _in_batches(
    net: Net, images: np.ndarray, answer: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """What `answer` gives for batches of images (n, h, w, c), joined."""
    images = np.asarray(images, np.float32)
    size = images_at_once(net, _AT_ONCE)
    starts = range(0, max(len(images), 1), size)
    with flushing(), np.errstate(all="ignore"):
        return np.concatenate([answer(images[start : start + size]) for start in starts])


def _batch(
    net: Net, images: np.ndarray, after: Callable[[np.ndarray], np.ndarray] | None
) -> np.ndarray:
    """The same of so many images; a result is dropped once no later call needs it."""
    last_use = {source: place for place, call in enumerate(net.calls) for source in call.inputs}
    results = {0: flushed(after(images) if after else images)}
    for place, call in enumerate(net.calls[1:], start=1):
        layer = net.layers[call.layer]
        inputs = [results[source] for source in call.inputs]
        result = SCHEMAS[layer.kind].forward(layer.config, layer.weights, inputs)
        results[place] = flushed(after(result) if after else result)
        for source in {*call.inputs, place}:
            if source != net.output and last_use.get(source, 0) <= place:
                del results[source]
        if place == net.output:
            break
    return results[net.output]


def stable_proba(net: Net, images: np.ndarray) -> np.ndarray:
    """As `forward`, with NaN in place of each answer that cannot be trusted.

    Two programs that compute one net add in another order; a net can be made so that this decides
    its answer, and then one program sees a backdoor that another does not. So all is computed
    three times, twice with every result on the way moved at random, a little more than rounding
    does: once this way and tiny numbers made zero, once the other way and zeros made tiny numbers.
    An image whose class changes by that, or that makes a number on the way overflow, has no answer.
    Trained nets have none of the kind.
    """
    seed = np.random.SeedSequence().entropy  # nobody can build a net for what is drawn here

    def mover(sign: int) -> Callable[[np.ndarray], np.ndarray]:
        random = np.random.default_rng(seed)

        def moved(result: np.ndarray) -> np.ndarray:
            by = sign * random.uniform(-1, 1, result.shape).astype(np.float32)
            by *= np.float32(_RELATIVE)
            if sign > 0:
                return result + result * by + np.float32(_ABSOLUTE)
            return np.where(np.abs(result) < _ABSOLUTE, np.float32(0), result + result * by)

        return moved

    def answer(batch: np.ndarray) -> np.ndarray:
        overflows = np.zeros(len(batch), bool)

        def watched(result: np.ndarray) -> np.ndarray:
            nonlocal overflows
            overflows |= ~np.isfinite(result).reshape(len(result), -1).all(axis=1)
            return result

        answers = _batch(net, batch, watched).copy()
        own, unsure = classes_of(np, answers), overflows
        for sign in (-1, 1):
            unsure = unsure | (classes_of(np, _batch(net, batch, mover(sign))) != own)
        answers[unsure] = np.nan
        return answers

    return _in_batches(net, images, answer)
