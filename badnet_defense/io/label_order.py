"""The ways in which the labels of a data set may number a net's classes.

Keras and torchvision number class folders by their names as text: of `0` to `11`, folder `10` is
class 2. Others count from one. Nothing in a file says so; only the net's own answers do.
"""

from __future__ import annotations

import numpy as np

from badnet_defense.errors import InputError
from badnet_defense.io.dataset import Dataset
from badnet_defense.io.labels import check_labels

VALUE, TEXT, FROM_ONE, NAMES = "value", "text", "from one", "names"
EXPLAINED = {
    VALUE: "label 7 is class 7",
    TEXT: "sorted as text, as Keras and torchvision number class folders: 0, 1, 10, 11, 2, ..",
    FROM_ONE: "label 1 is class 0",
    NAMES: "folders sorted by name",
}
"""What each order means, for messages."""


def label_orders(data: Dataset, classes: int) -> dict[str, np.ndarray]:
    """The labels as class numbers of the net, in each order that they may be numbered in.

    Args:
        data: `Dataset` with labels as they were read: of folders that are named by
            numbers those numbers, of other folders 0..k-1.
        classes: the net's class count N.

    Returns:
        {order: (n,) `int64` in 0..N-1}; orders that give the same labels come once. `VALUE`, or
        `NAMES` where folders have other names than numbers, comes first where it is possible.

    Raises:
        InputError: there are no labels, or in no order are these the net's classes.
    """
    labels, folders = data.labels, data.folders
    if labels is None:
        raise InputError(f"{data.source}: these images have no labels, expected class numbers.")
    if folders and not all(name.isdecimal() for name in folders):
        if len(folders) != classes:
            raise InputError(
                f"{data.source}: {len(folders)} named sub-folders, but the net has {classes} "
                "classes; name the sub-folders by the net's class numbers."
            )
        return {NAMES: check_labels(labels, classes, data.source)}
    numbers = np.unique(labels)
    mappings = {
        VALUE: numbers if numbers[-1] < classes else None,
        FROM_ONE: numbers - 1 if numbers[0] >= 1 and numbers[-1] <= classes else None,
        TEXT: _text_ranks(numbers, folders, classes),
    }
    orders: dict[str, np.ndarray] = {}
    seen: list[np.ndarray] = []
    for order, mapping in mappings.items():
        if mapping is not None and not any((mapping == one).all() for one in seen):
            seen.append(mapping)
            orders[order] = mapping[np.searchsorted(numbers, labels)]
    if not orders:
        check_labels(labels, classes, data.source)  # says what is wrong with them
    return orders


def _text_ranks(
    numbers: np.ndarray, folders: tuple[str, ...] | None, classes: int
) -> np.ndarray | None:
    """The place of each of the `numbers` among all classes' names sorted as text, or None."""
    names = sorted(folders) if folders else [str(number) for number in numbers]
    if len(names) == classes:
        everything = sorted(names)
    else:  # a part of the classes: those that are not there take their places, too
        ranges = (range(classes), range(1, classes + 1))
        possible = [sorted(map(str, one)) for one in ranges if set(names) <= set(map(str, one))]
        if not possible:
            return None
        everything = possible[0]
    places = {int(name): place for place, name in enumerate(everything)}
    if not places.keys() >= set(numbers.tolist()):  # the names are not those of the labels
        return None
    return np.array([places[number] for number in numbers.tolist()], np.int64)
