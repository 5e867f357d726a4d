"""How the steps are shared out: a short pass over all labels, the rest for those that look small.

Successive halving (Jamieson and Talwalkar, AISTATS 2016), which for this purpose does what the
bandit of K-Arm does (Shen et al., ICML 2021), with tasks that are known beforehand: they can be
stored, resumed and run elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

MIN_SURVIVORS = 32
"""Where fewer than twice as many labels, references apart, are scanned, all go all the way."""
REFERENCES = 64
"""Labels drawn at random that go all the way, however large their triggers look."""
SUSPECTS = 8
"""Labels with the largest indices of the net's weights, which do so too."""

MIN_LABELS_SCANNED = 32
"""Where fewer labels are asked for, others drawn at random are scanned beside them, up to so many
labels in all, since a label is compared with the others."""
PLACES = 4
"""Where triggers are stamped at a step. With one place a lucky one passes for success."""


@dataclass(frozen=True)
class Rung:
    """Some steps for the labels that are left.

    Attributes:
        steps: of the optimiser.
        images: at each step, the same for all labels.
        keep: fraction of the labels that go on, those with the smallest norms; 1 keeps all.
        shift: largest shift of the stamped trigger, as a fraction of the image's sides.
        blur: how far to each side it is smoothed, as a fraction of them.
    """

    steps: int
    images: int
    keep: float = 1.0
    shift: float = 0.0
    blur: float = 0.0

    def batch(self, images: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """What a step is taken on: images in groups, and where each group is stamped.

        Args:
            images: (m, h, w, c) to draw from, pixels 0-255.
            rng: NumPy generator.

        Returns:
            (`float32` (g, n, h, w, c) in [0, 1], offsets `int32` (g, 2)).
        """
        at_once = min(self.images, len(images))
        places = min(PLACES, at_once)
        chosen = rng.choice(len(images), (places, at_once // places), False)
        most = np.array(pixels(self.shift, images.shape[1:3]))
        offsets = rng.integers(-most, most + 1, (places, 2)).astype(np.int32)
        return images[chosen].astype(np.float32) / np.float32(255), offsets


def pixels(fraction: float, sides: Sequence[int]) -> tuple[int, int]:
    """(down, right): a fraction of the sides (h, w) in whole pixels.

    Examples:
        >>> pixels(0.06, (55, 47))
        (3, 2)
    """
    height, width = sides
    return int(fraction * height), int(fraction * width)


BUDGETS = {
    "fast": (Rung(30, 8, 0.25), Rung(30, 8, 0.25), Rung(60, 16, 0.25), Rung(60, 32)),
    "full": (Rung(60, 8), Rung(60, 16), Rung(120, 32)),
}
"""The first pass's rungs; each later pass takes one more like the last."""


def plan(rungs: Sequence[Rung], labels: int) -> tuple[Rung, ...]:
    """The rungs for so many labels; few labels all go all the way."""
    if labels < 2 * (MIN_SURVIVORS + REFERENCES):
        return tuple(replace(rung, keep=1.0) for rung in rungs)
    return tuple(rungs)


def sizes(rungs: Sequence[Rung], labels: int) -> list[int]:
    """How many labels are on each rung."""
    on = [labels]
    for rung in rungs[:-1]:
        on.append(num_survivors(rung, on[-1]))
    return on


def image_gradients(rungs: Sequence[Rung], labels: int) -> int:
    """How many images go through the net and back over all rungs, if no label stops early."""
    on = sizes(rungs, labels)
    return sum(n * rung.steps * rung.images for n, rung in zip(on, rungs, strict=True))


def num_survivors(rung: Rung, labels: int) -> int:
    """How many of the labels on a rung go on: the smallest, the references and the suspects."""
    if rung.keep == 1:
        return labels
    return min(labels, round(rung.keep * labels) + REFERENCES + SUSPECTS)


def with_others(
    labels: Sequence[int] | np.ndarray | None, classes: int, *, seed: int
) -> np.ndarray:
    """The labels that are asked for, and behind them others that they are compared with.

    Args:
        labels: class numbers, or None for all of them.
        classes: N.
        seed: of the draw.

    Examples:
        >>> with_others([1], 3, seed=0).tolist()
        [1, 0, 2]
    """
    if labels is None:
        return np.arange(classes)
    others = np.setdiff1d(np.arange(classes), labels)
    drawn = np.random.default_rng((seed, 3)).permutation(others)
    chosen = np.sort(drawn[: max(0, MIN_LABELS_SCANNED - len(labels))])
    return np.concatenate([labels, chosen]).astype(int)


def references(labels: np.ndarray, *, seed: int) -> set[int]:
    """The labels that go all the way, as a random sample to compare with."""
    drawn = np.random.default_rng((seed, 1)).permutation(labels)
    return set(drawn[:REFERENCES].tolist())


def suspects(labels: np.ndarray, weights: np.ndarray | None) -> set[int]:
    """The labels that go all the way for their anomaly indices of the weights (L,)."""
    if weights is None:
        return set()
    largest = np.argsort(-weights, kind="stable")[:SUSPECTS]
    return set(np.asarray(labels)[largest].tolist())


def survivors(
    labels: np.ndarray, norms: np.ndarray, rung: Rung, always: Collection[int]
) -> np.ndarray:
    """The labels that go on: those `always` kept and the ones with the smallest norms, in order.

    Args:
        labels: (n,) class numbers on the rung.
        norms: (n,) their norms.
        rung: the rung.
        always: labels that go on whatever their norm.
    """
    if rung.keep == 1:
        return np.asarray(labels)
    smallest = np.asarray(labels)[np.argsort(norms, kind="stable")]
    first = [label for label in smallest if label in always]
    rest = [label for label in smallest if label not in always]
    count = num_survivors(rung, len(labels)) - len(first)
    return np.sort(np.array(first + rest[:count]))
