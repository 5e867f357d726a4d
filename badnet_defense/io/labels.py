"""Class numbers from files and arrays, checked before anything is computed with them."""

from __future__ import annotations

from os import PathLike

import numpy as np

from badnet_defense.errors import InputError


def check_label_shape(shape: tuple[int, ...], count: int, source: str | PathLike[str]) -> None:
    """Refuses labels that are not one number per image: (n,) or (n, 1).

    Args:
        shape: of the labels.
        count: n, the number of images.
        source: where they came from, for messages.

    Raises:
        InputError: one-hot labels, another shape, or another number of labels.
    """
    if len(shape) == 2 and shape[0] == count and shape[1] > 1:
        raise InputError(
            f"{source}: labels have shape {shape}, as one-hot labels have, expected one class "
            f"number per image, ({count},); give labels.argmax(axis=1)."
        )
    if len(shape) != 1 and not (len(shape) == 2 and shape[1] == 1):
        raise InputError(f"{source}: labels have shape {shape}, expected ({count},).")
    if shape[0] != count:
        raise InputError(f"{source}: {shape[0]} labels for {count} images, expected one each.")


def check_labels(
    labels: np.ndarray, classes: int | None, source: str | PathLike[str]
) -> np.ndarray:
    """Labels as `int64`, if they can be class numbers of the net.

    Args:
        labels: (n,) of an integer or float dtype, n > 0.
        classes: the net's class count N, or None where no net is known.
        source: where they came from, for messages.

    Raises:
        InputError: not numbers, not whole, negative, or above N - 1.

    Examples:
        >>> import numpy as np
        >>> check_labels(np.array([2.0, 0.0]), 3, "array")
        array([2, 0])
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
    return labels.astype(np.int64, copy=False)
