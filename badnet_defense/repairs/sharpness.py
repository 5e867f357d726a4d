"""The gradient where the loss is highest nearby (Kwon et al., ASAM, ICML 2021)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

TINY = 1e-12


def at_sharpest(
    variables: Sequence[Any],
    gradients: Sequence[Any],
    radius: float,
    gradients_here: Callable[[], list[Any]],
) -> list[Any]:
    """Gradients after a step uphill whose size in each weight goes with the weight's own size.

    FT-SAM (Zhu et al., ICCV 2023, eq. 4): the step is radius * T^2 g / ||T g|| with T = diag |w|,
    so large weights, which carry a backdoor, are perturbed most.

    Args:
        variables: the net's trainable variables; moved, and put back.
        gradients: g, those at the present weights; TensorFlow tensors.
        radius: of the step, above 0.
        gradients_here: called without arguments at the moved weights; gives the gradients there.

    Returns:
        the gradients at the moved weights.
    """
    import tensorflow as tf

    scaled = [
        tf.abs(variable.value) * gradient
        for variable, gradient in zip(variables, gradients, strict=True)
    ]
    factor = radius / (tf.linalg.global_norm(scaled) + TINY)
    before = [tf.identity(variable.value) for variable in variables]
    for variable, value, step in zip(variables, before, scaled, strict=True):
        variable.assign(value + factor * tf.abs(value) * step)
    moved = gradients_here()
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)
    return moved
