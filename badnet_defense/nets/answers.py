"""Which class a net's answer names, by one rule for NumPy and for Keras' graphs.

`xp` is `numpy` or `keras.ops`. Two programs that run one net add in another order and round
differently, and of equal numbers one takes 0.0 and -0.0 for different. So classes that rounding
could exchange count as equal, and the lowest of them is named; and an answer that is not finite
names none: argmax would say class 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_MAX_FLOAT = float(np.finfo(np.float32).max)

NO_ANSWER = -1
"""In the place of a class number where a net's answer is not finite; it never equals a label."""
RELATIVE_TOLERANCE = 1e-5
"""Answers below the largest by less than this share of it count as equal to it: `float32` sums
taken in another order differ by a tenth of that."""
ABSOLUTE_TOLERANCE = 1e-37
"""Differences below it are none: one program takes such small numbers for zero, another doesn't."""


def classes_of(xp: Any, answers: Any) -> Any:
    """(..) the class of each of the answers (.., N), or `NO_ANSWER` where one is not finite."""
    top = xp.max(answers, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        near = answers >= top - (RELATIVE_TOLERANCE * xp.abs(top) + ABSOLUTE_TOLERANCE)
    # Whole numbers: Keras' argmax of floats looks at the bits of -0.0, which ONNX cannot.
    first = xp.argmax(xp.where(near, 1, 0), axis=-1)
    return xp.where(finite(xp, answers), first, xp.full_like(first, NO_ANSWER))


def finite(xp: Any, answers: Any) -> Any:
    """(..) True where each number of an answer (.., N) is finite."""
    # NaN is at most nothing. ONNX has this comparison, but no other test of a whole float.
    return xp.all(xp.abs(answers) <= _MAX_FLOAT, axis=-1)


def agreed(xp: Any, bad: Any, repaired: Any, classes: int) -> Any:
    """(n,) the class that both nets name, or `classes` ("poisoned") where they differ or one has
    no answer.

    Args:
        xp: `numpy` or `keras.ops`.
        bad, repaired: (n,) of `classes_of`.
        classes: N.
    """
    same = xp.logical_and(xp.equal(bad, repaired), xp.not_equal(bad, NO_ANSWER))
    return xp.where(same, bad, xp.full_like(bad, classes))
