"""What the disagreement guard answers, from the answers of its two nets."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from badnet_defense.nets.answers import agreed


def guard_answers(bad: ArrayLike, repaired: ArrayLike, classes: int) -> np.ndarray:
    """The class (n,) that both nets name, or `classes` ("poisoned").

    Args:
        bad, repaired: (n,) of `predict_labels`; where one is `NO_ANSWER`, the image is poisoned.
        classes: N.

    Examples:
        >>> guard_answers([0, 1, 2], [0, 2, 2], classes=3).tolist()
        [0, 3, 2]
    """
    return agreed(np, np.asarray(bad), np.asarray(repaired), classes)
