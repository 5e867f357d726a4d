"""Whether clean images suit a scan, said before the work: enough, different, of many classes."""

import numpy as np

from badnet_defense.errors import CannotJudgeError

LEAST_IMAGES = 32
"""Different images that a scan takes at least: as many as its last step stamps a trigger on."""
MOST_OF_ONE = 0.8
"""Largest share of the images that the net may answer with one class. The trigger of that class
has next to nothing to do, so that it is small whether there is a backdoor or not."""


def check_count(images):
    """Refuses images that are too few, or too alike, for a scan.

    Args:
        images: (n, h, w, c) clean images, pixels 0-255.

    Raises:
        CannotJudgeError: fewer than `LEAST_IMAGES` different ones.
    """
    different = len({one.tobytes() for one in np.ascontiguousarray(images)})
    if different < LEAST_IMAGES:
        same = "" if different == len(images) else f", {different} of them different"
        raise CannotJudgeError(
            f"cannot be judged: {len(images)} clean image{'s' * (len(images) != 1)} came{same}; a "
            f"scan needs at least {LEAST_IMAGES} different ones, of several classes: give more."
        )


def check_answers(answers, classes):
    """Refuses images that the net gives hardly more than one answer for.

    Args:
        answers: (n,) the net's own classes of the clean images; below 0 where it answered no
            numbers.
        classes: N.

    Raises:
        CannotJudgeError: it answered no numbers, or one class for more than `MOST_OF_ONE`.
    """
    if np.any(answers < 0):
        raise CannotJudgeError(
            f"cannot be judged: for {np.mean(answers < 0):.0%} of the clean images the net's "
            "answers are no numbers; check --input-range, or give other images."
        )
    counts = np.bincount(answers, minlength=classes)
    share = counts.max() / len(answers)
    if share > MOST_OF_ONE:
        raise CannotJudgeError(
            f"cannot be judged: the net answers {share:.0%} of the clean images with class "
            f"{counts.argmax()}, whose trigger would be small for that alone; give images of "
            f"several classes, at most {MOST_OF_ONE:.0%} of one (or check --input-range)."
        )
