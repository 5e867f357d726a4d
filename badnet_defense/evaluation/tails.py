"""A group of images whose scores stand apart from all others, as poisoned ones among clean do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_FRACTION = 0.1
"""Fraction of the images that a tail may be at most: what is more is no tail."""
MIN_IMAGES = 5
"""Images of a tail at least."""
LEVEL = 1e-6
"""How improbable a tail must be where none is: every possible one of a set is tried, and scores are
only nearly what the tests take them for."""
SHARED = 0.8
"""Share of a tail that one answer must have to count by its answers."""
_ABOVE = (0, 1, 2, 4, 8)
"""Odd images above a tail that may be passed over to find it."""


@dataclass(frozen=True)
class Tail:
    """Images whose scores stand apart from the rest.

    Attributes:
        places: (k,) positions of the images, highest score first.
        answer: the class that most of them are answered with; None where no answers were given.
        answered: how many of them are.
        chance: about how probable such a tail is where none is, in [0, 1].
    """

    places: np.ndarray
    answer: int | None
    answered: int
    chance: float


def separated_tail(scores: np.ndarray, answers: np.ndarray | None = None) -> Tail | None:
    """The images at the upper end of the scores that do not belong to the rest, if there are any.

    Two marks count, each by itself. A second mode: clean scores get rarer towards their end,
    however heavy their tail is, so that of two neighbouring intervals of one width the upper holds
    no more of them than the lower; a group that has come in from elsewhere has its own peak. And
    one answer: a trigger gives all its images one class, whereas the oddest clean images are of
    many.

    Args:
        scores: (n,) of images that should all be clean; higher is more anomalous.
        answers: (n,) the suspect model's classes of them, or None; negative ones are no class.

    Returns:
        `Tail`, or None where nothing stands apart.

    Examples:
        >>> scores = np.random.default_rng(0).normal(size=1000)
        >>> separated_tail(scores) is None
        True
        >>> scores[:50] += 12
        >>> sorted(separated_tail(scores).places.tolist()) == list(range(50))
        True
    """
    scores = np.asarray(scores, np.float64)
    most = int(MAX_FRACTION * len(scores))
    if most < MIN_IMAGES or not np.isfinite(scores).all():
        return None
    order = np.argsort(-scores, kind="stable")
    found = [_second_mode(scores[order], most)]
    if answers is not None:
        answers = np.asarray(answers)[order]
        found.append(_one_answer(answers, most))
    chance, count = min(found)
    if chance > LEVEL:
        return None
    if answers is None:
        return Tail(order[:count], None, 0, chance)
    classes, counts = np.unique(answers[:count], return_counts=True)
    return Tail(order[:count], int(classes[counts.argmax()]), int(counts.max()), chance)


def _second_mode(falling: np.ndarray, most: int) -> tuple[float, int]:
    """(chance, size) of the tail most clearly apart; `falling` are scores (n,), largest first.

    Of u + l scores in two neighbouring intervals of one width, where their density does not rise
    upwards, as many as u in the upper one are as likely as u heads of u + l tosses.
    """
    from scipy.stats import binom

    rising, best = falling[::-1], (1.0, 0)
    for above in _ABOVE:
        sizes = np.arange(above + MIN_IMAGES, most + 1)
        if not len(sizes):
            break
        lowest = falling[sizes - 1]
        width = falling[above] - lowest
        below = np.searchsorted(rising, lowest) - np.searchsorted(rising, lowest - width)
        inside = sizes - above - 1  # the width is theirs: one of them is not free
        chances = np.where(width > 0, binom.sf(inside - 1, inside + below, 0.5), 1.0)
        for place in np.flatnonzero(chances < min(LEVEL, best[0])):
            if chances[place] < best[0] and _denser(rising, lowest[place], width[place]):
                best = float(chances[place]), int(sizes[place])
    return best


def _denser(rising: np.ndarray, lowest: float, width: float) -> bool:
    """True where some interval further down holds more scores than the tail: else it is no tail.

    Scores that crowd at the end of their scale, such as probabilities near 1, have one mode there.
    """
    tail = len(rising) - np.searchsorted(rising, lowest)
    rest = rising[: np.searchsorted(rising, lowest)]
    counts = np.arange(1, len(rest) + 1) - np.searchsorted(rest, rest - width)
    return counts.max(initial=0) > tail


def _one_answer(answers: np.ndarray, most: int) -> tuple[float, int]:
    """(chance, size) of the upper end most clearly of one answer; `answers` (n,), oddest first.

    How probable it is that so many of so many drawn at random have an answer, times the answers.
    """
    from scipy.stats import binom

    best = (1.0, 0)
    classes, counts = np.unique(answers[answers >= 0], return_counts=True)
    sizes = np.arange(1, most + 1)
    for one, count in zip(classes, counts, strict=True):
        met = np.cumsum(answers[:most] == one)
        chances = binom.sf(met - 1, sizes, count / len(answers)) * len(classes)
        chances = np.where((met >= SHARED * sizes) & (met >= MIN_IMAGES), chances, 1.0)
        place = int(chances.argmin())
        best = min(best, (float(chances[place]), int(sizes[place])))
    return best
