"""How the steps are shared out: a short pass over all labels, the rest for those that look small.

Successive halving (Jamieson and Talwalkar, AISTATS 2016), which for this purpose does what the
bandit of K-Arm does (Shen et al., ICML 2021), with units of work that are known beforehand: they
can be stored, taken up again and done elsewhere.
"""

from dataclasses import dataclass, replace

import numpy as np

LEAST = 32
"""Where fewer than twice as many labels, references apart, are scanned, all go all the way."""
REFERENCES = 64
"""Labels drawn at random that go all the way, however large their triggers look."""
SUSPECTS = 8
"""Labels that the net's weights speak against, which do so too."""

BESIDE = 32
"""Where fewer labels are asked for, others drawn at random are scanned beside them, up to so many
labels in all, since a label is judged by the others."""

NEAR, FAR, BLUR = 0.06, 0.125, 0.05
"""Shifts of a trigger: small while it is found and first measured, then large; and how smooth it is
then, each pixel the mean of those within `BLUR` of the sides.

A patch shows in the first look. An accessory bears both, since nets answer to it wherever it sits
about right, and since it is of one piece; other labels' patterns, adversarial noise, have to grow,
so that large triggers stand out, too."""
PLACES = 4
"""Where triggers are stamped at a step. With one place a lucky one passes for success."""


@dataclass(frozen=True)
class Rung:
    """One pass over the labels that are left.

    Attributes:
        steps: of the optimiser.
        images: at each step, the same for all labels.
        keep: share of the labels that go on, those with the smallest norms; 1 on the last rung.
        shift: largest shift of the stamped trigger, as a share of the picture's sides.
        blur: how far to each side it is smoothed, as a share of them.
    """

    steps: int
    images: int
    keep: float = 1.0
    shift: float = NEAR
    blur: float = 0.0

    def batch(self, pictures, rng):
        """What a step is taken on: pictures in groups, and where each group is stamped.

        Args:
            pictures: (m, h, w, c) to draw from, pixels 0-255.
            rng: NumPy generator.

        Returns:
            (`float32` (g, n, h, w, c) in [0, 1], offsets `int32` (g, 2)).
        """
        at_once = min(self.images, len(pictures))
        places = min(PLACES, at_once)
        chosen = rng.choice(len(pictures), (places, at_once // places), False)
        most = np.array(pixels(self.shift, pictures.shape[1:3]))
        offsets = rng.integers(-most, most + 1, (places, 2)).astype(np.int32)
        return pictures[chosen].astype(np.float32) / np.float32(255), offsets


def pixels(share, sides):
    """(down, right): a share of the sides (h, w) in whole pixels."""
    return tuple(int(share * side) for side in sides)


BUDGETS = {
    "fast": (
        Rung(30, 8, 0.25),
        Rung(30, 8, 0.25),
        Rung(60, 16, 0.25),
        Rung(60, 32),
        Rung(60, 32, shift=FAR, blur=BLUR),
    ),
    "full": (Rung(60, 8), Rung(60, 16), Rung(120, 32), Rung(120, 32, shift=FAR, blur=BLUR)),
}


def plan(budget, labels):
    """The rungs of a budget for so many labels; few labels all go all the way."""
    rungs = BUDGETS[budget]
    if labels < 2 * (LEAST + REFERENCES):
        rungs = tuple(replace(rung, keep=1.0) for rung in rungs)
    return rungs


def sizes(rungs, labels):
    """How many labels are on each rung."""
    on = [labels]
    for rung in rungs[:-1]:
        on.append(kept(rung, on[-1]))
    return on


def picture_gradients(rungs, labels):
    """How many pictures go through the net and back over all rungs, if no label stops early."""
    on = sizes(rungs, labels)
    return sum(n * rung.steps * rung.images for n, rung in zip(on, rungs, strict=True))


def kept(rung, labels):
    """How many of the labels on a rung go on: the smallest, the references and the suspects."""
    if rung.keep == 1:
        return labels
    return min(labels, round(rung.keep * labels) + REFERENCES + SUSPECTS)


def with_beside(labels, classes, *, seed):
    """The labels that are asked for, and behind them those that are scanned to judge them by.

    Args:
        labels: class numbers, or None for all of them.
        classes: N.
        seed: of the draw.
    """
    if labels is None:
        return np.arange(classes)
    others = np.setdiff1d(np.arange(classes), labels)
    drawn = np.random.default_rng((seed, 3)).permutation(others)
    return np.concatenate([labels, np.sort(drawn[: max(0, BESIDE - len(labels))])]).astype(int)


def references(labels, *, seed):
    """The labels (a set) that go all the way, to be measured by."""
    drawn = np.random.default_rng((seed, 1)).permutation(labels)
    return set(drawn[:REFERENCES].tolist())


def suspects(labels, weights):
    """The labels (a set) that go all the way for their anomaly indices of the weights (L,)."""
    if weights is None:
        return set()
    largest = np.argsort(-weights, kind="stable")[:SUSPECTS]
    return set(np.asarray(labels)[largest].tolist())


def survivors(labels, norms, rung, always):
    """The labels that go on: those `always` kept and the ones with the smallest norms, in order.

    Args:
        labels: (n,) class numbers on the rung.
        norms: (n,) their norms.
        rung: the `Rung`.
        always: set of labels that go on whatever their norm.
    """
    if rung.keep == 1:
        return np.asarray(labels)
    smallest = np.asarray(labels)[np.argsort(norms, kind="stable")]
    first = [one for one in smallest if one in always]
    rest = [one for one in smallest if one not in always]
    return np.sort(np.array(first + rest[: kept(rung, len(labels)) - len(first)]))
