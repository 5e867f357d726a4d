"""The disagreement guard: where the bad net and its repair disagree, the picture is poisoned.

On honest pictures both give the same class; a trigger moves the bad net's answer to the attacker's
class and leaves the repaired net's where it was.
"""

import keras
from keras import ops

from badnet_defense.nets.answers import agreed, classes_of
from badnet_defense.nets.input_range import UNIT

BAD, REPAIRED, DISAGREEMENT = "bad", "repaired", "disagreement"
"""Names of the guard's three parts in its file."""


@keras.saving.register_keras_serializable("badnet_defense", DISAGREEMENT)
def disagreement(answers, input_range=None):
    """The common class of two nets, or N where they differ or an answer is not finite.

    Args:
        answers: two tensors of class probabilities (n, N): the bad net's, the repaired net's.
        input_range: [low, high] of the nets, for whoever reads the file; nothing is done with it.

    Returns:
        (n,) `int32`, 0..N.
    """
    both = classes_of(ops, ops.stack(answers, axis=1))
    return ops.cast(agreed(ops, both[:, 0], both[:, 1], answers[0].shape[-1]), "int32")


def build_guard(bad, repaired, *, input_range=UNIT):
    """One model that answers 0..N-1 where both nets agree, and N ("poisoned") where they don't.

    Both nets are copied. The function of the Lambda layer that joins them is registered by name:
    the saved file holds no code, and loads with `safe_mode=True` once this module is imported.

    Args:
        bad: `keras.Model`, pictures (n, h, w, c) -> probabilities (n, N).
        repaired: the same shapes.
        input_range: the nets' range, which the guard's file holds.

    Returns:
        `keras.Model`: pictures (n, h, w, c) -> (n,) `int32`.

    Raises:
        InputError: the two nets have other inputs or other class counts.
    """
    pictures, answers = _joined(bad, repaired)
    join = keras.layers.Lambda(
        disagreement,
        output_shape=(),
        arguments={"input_range": [float(input_range.low), float(input_range.high)]},
        name=DISAGREEMENT,
    )
    return keras.Model(pictures, join(answers), name="guard")


def build_portable_guard(bad, repaired):
    """The same guard out of plain Keras operations, which Keras loads without this package."""
    pictures, answers = _joined(bad, repaired)
    own, other = (ops.argmax(one, axis=-1) for one in answers)
    # Few operations, since a reader checks each: a sum is finite where all that it adds is.
    finite = ops.isfinite(ops.add(*(ops.sum(one, axis=-1) for one in answers)))
    alike = ops.logical_and(ops.equal(own, other), finite)
    poisoned = ops.full_like(own, bad.output_shape[-1])
    joined = ops.cast(ops.where(alike, own, poisoned), "int32")
    return keras.Model(pictures, joined, name="guard")


def _joined(bad, repaired):
    from badnet_defense.errors import InputError
    from badnet_defense.nets.build import copy_model

    shapes = [(net.input_shape[1:], net.output_shape[1:]) for net in (bad, repaired)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"the repaired net maps {shapes[1][0]} to {shapes[1][1]}, but the bad net maps "
            f"{shapes[0][0]} to {shapes[0][1]}; give the repair of this very net."
        )
    pictures = keras.Input(bad.input_shape[1:], name="pictures")
    parts = []
    for net, name in ((bad, BAD), (repaired, REPAIRED)):
        copied = copy_model(net)
        copied.name = name
        parts.append(copied(pictures))
    return pictures, parts
