"""Whether clean images suit a scan, checked before the work: enough, different, of many classes."""

from __future__ import annotations

import numpy as np

from badnet_defense.errors import CannotJudgeError

MIN_IMAGES = 32
"""Different images that a scan needs at least: as many as its last step stamps a trigger on."""
MAX_FRACTION_OF_ONE_CLASS = 0.8
"""Largest fraction of the images that the net may answer with one class. The trigger of that class
has next to nothing to do, so that it is small whether there is a backdoor or not."""


def check_count(images: np.ndarray) -> None:
    """Refuses images that are too few, or too alike, for a scan.

    Args:
        images: (n, h, w, c) clean images, pixels 0-255.

    Raises:
        CannotJudgeError: fewer than `MIN_IMAGES` different ones.

    Examples:
        >>> check_count(np.arange(32, dtype="uint8").reshape(32, 1, 1, 1))
        >>> check_count(np.zeros((40, 2, 2, 3), "uint8"))
        Traceback (most recent call last):
        badnet_defense.errors.CannotJudgeError: cannot be judged: got 40 clean images, 1 of them different; a scan needs at least 32 different ones, of several classes: give more.
    """  # noqa: E501
    different = len({image.tobytes() for image in np.ascontiguousarray(images)})
    if different < MIN_IMAGES:
        same = "" if different == len(images) else f", {different} of them different"
        raise CannotJudgeError(
            f"cannot be judged: got {len(images)} clean image{'s' * (len(images) != 1)}{same}; a "
            f"scan needs at least {MIN_IMAGES} different ones, of several classes: give more."
        )


def check_answers(answers: np.ndarray, classes: int) -> None:
    """Refuses images that the net answers almost all with one class.

    Args:
        answers: (n,) the net's own classes of the clean images; below 0 where its answer is not
            finite.
        classes: N.

    Raises:
        CannotJudgeError: an answer is not finite, or one class is the answer for more than
            `MAX_FRACTION_OF_ONE_CLASS`.
    """
    if np.any(answers < 0):
        raise CannotJudgeError(
            f"cannot be judged: for {np.mean(answers < 0):.0%} of the clean images the net's "
            "answers are no numbers; check the input range, or give other images."
        )
    counts = np.bincount(answers, minlength=classes)
    fraction = counts.max() / len(answers)
    if fraction > MAX_FRACTION_OF_ONE_CLASS:
        raise CannotJudgeError(
            f"cannot be judged: the net answers {fraction:.0%} of the clean images with class "
            f"{counts.argmax()}, whose trigger would be small for that alone; give images of "
            f"several classes, at most {MAX_FRACTION_OF_ONE_CLASS:.0%} of one (or check the input "
            "range)."
        )
