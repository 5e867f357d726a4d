"""How many clean images each class has: a figure over all images says nothing of the others."""

import logging

import numpy as np

from badnet_defense.errors import InputError
from badnet_defense.io.listing import join_names

_log = logging.getLogger("badnet_defense")

FEW = 5
"""A class with fewer images is hardly measured, and hardly taught."""


def class_counts(sets, classes):
    """{part: number of images of each class 0..N-1} of the labelled clean sets.

    Args:
        sets: {part: `Dataset`} with labels 0..N-1; the clean ones begin with "clean".
        classes: N.
    """
    return {
        part: np.bincount(images.labels, minlength=classes).tolist()
        for part, images in sets.items()
        if part.startswith("clean") and images.labels is not None
    }


def coverage_text(counts):
    """Whom the figures leave out: "no image of 4 and 17; fewer than 5 of 3 (2), 9 (1)", or "".

    Args:
        counts: (N,) number of images of each class.
    """
    absent = [label for label, count in enumerate(counts) if not count]
    few = [f"{label} ({count})" for label, count in enumerate(counts) if 0 < count < FEW]
    told = []
    if absent:
        told.append(f"no image of {_classes(absent)} {join_names(absent)}")
    if few:
        told.append(f"fewer than {FEW} of {_classes(few)} {join_names(few)}")
    return "; ".join(told)


def _classes(names):
    return "class" if len(names) == 1 else "classes"


def tell_coverage(images, classes):
    """Says through the logger which classes have no clean image, or hardly any, before the work.

    Args:
        images: clean `Dataset` with labels 0..N-1; unlabelled ones say nothing.
        classes: N.
    """
    if images.labels is not None:
        told = coverage_text(np.bincount(images.labels, minlength=classes))
        if told:
            _log.warning(
                "%s: %s; accuracies are averages over the images that are there, and a repair can "
                "lose the other classes.",
                *(images.source, told),
            )


def check_several_classes(images, classes):
    """Refuses to repair a net by images of one class: it would learn to answer nothing else.

    Args:
        images: clean `Dataset` with labels.
        classes: N.

    Raises:
        InputError: the net has several classes, but all images are of one.
    """
    found = np.unique(images.labels)
    if classes > 1 and len(found) < 2:
        raise InputError(
            f"{images.source}: all {len(images)} clean images are of class {found[0]}, but the net "
            f"has {classes} classes; a repair needs images of several, best of all: give more."
        )
