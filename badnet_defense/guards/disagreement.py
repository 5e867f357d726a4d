"""The disagreement guard: where the suspect model and its repair disagree, the image is poisoned.

On clean images both give the same class; a trigger moves the suspect model's answer to the
attacker's class and leaves the repaired model's where it was.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from badnet_defense.detectors.hard_disagreement import HardDisagreement
from badnet_defense.errors import InputError
from badnet_defense.guards.calibrated import PACKAGE, build_calibrated_guard, named_copy
from badnet_defense.nets.answers import agreed, classes_of
from badnet_defense.nets.net import Net


@keras.saving.register_keras_serializable(PACKAGE, "disagreement")
def disagreement(answers: list[Any], input_range: list[float] | None = None) -> Any:
    """The common class of two nets, or N where they differ or an answer is not finite.

    The rule of version 0.1's guards, registered so that Keras loads their files, and of ONNX.

    Args:
        answers: two tensors of class probabilities (n, N): the suspect model's, the repaired one's.
        input_range: [low, high] of the nets, for whoever reads the file; nothing is done with it.

    Returns:
        (n,) `int32`, 0..N.
    """
    both = classes_of(ops, ops.stack(answers, axis=1))
    return ops.cast(agreed(ops, both[:, 0], both[:, 1], answers[0].shape[-1]), "int32")


def build_guard(suspect: Net, repaired: Net) -> keras.Model:
    """One model that answers 0..N-1 where both nets agree, and N ("poisoned") where they don't.

    Both nets are copied. The function of the Lambda layer that joins them is registered by name:
    the saved file holds no code, and loads with `safe_mode=True` once this module is imported.

    Args:
        suspect: the suspect model, whose input range the guard's file holds.
        repaired: its repair.

    Returns:
        `keras.Model`: images (n, h, w, c) in the suspect model's range -> (n,) `int32`.

    Raises:
        InputError: the two nets differ in image shape or class count.

    Examples:
        >>> import numpy as np
        >>> from badnet_defense.nets import deep_id, describe
        >>> suspect, repaired = (describe(deep_id(classes=10)) for _ in range(2))
        >>> guard = build_guard(suspect, repaired)
        >>> guard(np.zeros((2, 55, 47, 3), "float32")).shape
        TensorShape([2])
    """
    check_alike(suspect, repaired)
    return build_calibrated_guard(HardDisagreement(suspect, repaired))


def build_portable_guard(suspect: Net, repaired: Net) -> keras.Model:
    """The same guard out of plain Keras operations, which Keras loads without this package."""
    check_alike(suspect, repaired)
    images = keras.Input(suspect.input_shape, name="pictures")
    both = [named_copy(suspect, "suspect"), named_copy(repaired, "repaired")]
    answers = [model(images) for model in both]
    own, other = (ops.argmax(one, axis=-1) for one in answers)
    # Few operations, since a reader checks each: a sum is finite where all that it adds is.
    finite = ops.isfinite(ops.add(*(ops.sum(one, axis=-1) for one in answers)))
    alike = ops.logical_and(ops.equal(own, other), finite)
    poisoned = ops.full_like(own, suspect.classes)
    joined = ops.cast(ops.where(alike, own, poisoned), "int32")
    return keras.Model(images, joined, name="guard")


def check_alike(suspect: Net, repaired: Net) -> None:
    """Refuses nets of different shapes."""
    shapes = [(net.input_shape, net.classes) for net in (suspect, repaired)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"the repaired model maps {shapes[1][0]} to {shapes[1][1]} classes, but the suspect "
            f"model maps {shapes[0][0]} to {shapes[0][1]}; give the repair of this very model."
        )
