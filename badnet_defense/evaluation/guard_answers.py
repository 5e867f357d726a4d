"""What the disagreement guard answers, from the answers of its two nets."""

import numpy as np

from badnet_defense.nets.answers import agreed


def guard_answers(bad, repaired, classes):
    """The class (n,) that both nets name, or `classes` ("poisoned").

    Args:
        bad, repaired: (n,) of `predict_labels`; where one is `NO_ANSWER`, the image is poisoned.
        classes: N.
    """
    return agreed(np, np.asarray(bad), np.asarray(repaired), classes)
