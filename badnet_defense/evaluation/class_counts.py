"""How many clean images each class has: a figure over all images says nothing of the others."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from badnet_defense.errors import InputError
from badnet_defense.io.dataset import Dataset
from badnet_defense.io.listing import join_names

_log = logging.getLogger("badnet_defense")

MIN_IMAGES = 5
"""A class with fewer images is hardly measured, and hardly taught."""


def class_counts(sets: Mapping[str, Dataset], classes: int) -> dict[str, list[int]]:
    """{part: number of images of each class 0..N-1} of the labelled clean sets.

    Args:
        sets: {part: `Dataset`} with labels 0..N-1; the clean ones begin with "clean".
        classes: N.
    """
    return {
        part: np.bincount(data.labels, minlength=classes).tolist()
        for part, data in sets.items()
        if part.startswith("clean") and data.labels is not None
    }


def coverage_text(counts: Sequence[int]) -> str:
    """Whom the figures leave out: "no image of 4 and 17; fewer than 5 of 3 (2), 9 (1)", or "".

    Args:
        counts: (N,) number of images of each class.

    Examples:
        >>> coverage_text([9, 0, 2])
        'no image of class 1; fewer than 5 of class 2 (2)'
    """
    absent = [label for label, count in enumerate(counts) if not count]
    few = [f"{label} ({count})" for label, count in enumerate(counts) if 0 < count < MIN_IMAGES]
    told = []
    if absent:
        told.append(f"no image of {_classes(absent)} {join_names(absent)}")
    if few:
        told.append(f"fewer than {MIN_IMAGES} of {_classes(few)} {join_names(few)}")
    return "; ".join(told)


def _classes(names: Sequence[object]) -> str:
    return "class" if len(names) == 1 else "classes"


def tell_coverage(data: Dataset, classes: int) -> None:
    """Says through the logger which classes have no clean image, or hardly any, before the work.

    Args:
        data: clean images with labels 0..N-1; unlabelled ones say nothing.
        classes: N.
    """
    if data.labels is not None:
        told = coverage_text(np.bincount(data.labels, minlength=classes).tolist())
        if told:
            _log.warning(
                "%s: %s; accuracies are averages over the images that are there, and a repair can "
                "lose the other classes.",
                *(data.source, told),
            )


def check_several_classes(data: Dataset, classes: int) -> None:
    """Refuses to repair a net by images of one class: it would learn to answer nothing else.

    Args:
        data: clean images with labels.
        classes: N.

    Raises:
        InputError: the net has several classes, but all images are of one.
    """
    assert data.labels is not None
    found = np.unique(data.labels)
    if classes > 1 and len(found) < 2:
        raise InputError(
            f"{data.source}: all {len(data)} clean images are of class {found[0]}, but the net "
            f"has {classes} classes; a repair needs images of several, best of all: give more."
        )
