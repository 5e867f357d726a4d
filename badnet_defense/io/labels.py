"""Class numbers as they come from files, checked before anything is computed with them."""

import numpy as np

from badnet_defense.errors import InputError


def check_labels(labels, classes, source):
    """Labels as `int64`, if they can be class numbers of the net.

    Args:
        labels: (n,) of an integer or float dtype, n > 0.
        classes: the net's class count N, or None where no net is known.
        source: where they came from, for messages.

    Raises:
        InputError: not numbers, not whole, negative, or above N - 1.
    """
    if labels.dtype.kind not in "iuf":
        raise InputError(
            f"{source}: labels have dtype {labels.dtype}, expected whole numbers, one class each."
        )
    if labels.dtype.kind == "f" and not (np.isfinite(labels) & (np.rint(labels) == labels)).all():
        wrong = labels[~(np.isfinite(labels) & (np.rint(labels) == labels))][0]
        raise InputError(
            f"{source}: labels hold {wrong:g}, expected whole numbers from 0, one class each."
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
        raise InputError(f"{source}: labels start at {low}, expected class numbers from 0.")
    if classes is not None and high >= classes:
        raise InputError(
            f"{source}: labels run to {high}, but the net has {classes} classes "
            f"(0..{classes - 1}). Is this the net's own data set?"
        )
    if high > np.iinfo(np.int64).max:
        raise InputError(f"{source}: labels run to {high}, expected class numbers from 0.")
    return labels.astype(np.int64)
