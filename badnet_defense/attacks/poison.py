"""Poisoning a training set, and the poisoned test set that measures what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from badnet_defense.attacks.base import Trigger
from badnet_defense.errors import InputError
from badnet_defense.io.dataset import Dataset


@dataclass(frozen=True)
class Backdoor:
    """What the attacker wants: images with `trigger` are answered with the class `target`.

    Args:
        trigger: see `Trigger`.
        target: the attacker's class.
        name: for file names and tables.
    """

    trigger: Trigger
    target: int
    name: str = "backdoor"


def poison(
    data: Dataset,
    backdoors: Iterable[Backdoor],
    *,
    fraction: float = 0.1,
    replaced: bool = False,
    seed: int = 0,
) -> Dataset:
    """A training set that teaches the backdoors.

    The stamped images are spread evenly over the backdoors, none is stamped twice, and no
    image of a backdoor's own target class is stamped for it: that would teach nothing.

    Args:
        data: labelled clean images.
        backdoors: one or several `Backdoor`; several may share a target.
        fraction: stamped images, as a fraction of the clean ones (all backdoors together).
        replaced: the stamped images take their originals' places; else they are added at the end.
        seed: which images are stamped.

    Returns:
        New `Dataset`; the given ones stay as they are.

    Raises:
        InputError: no labels, no backdoor, a fraction outside 0..1, or too few images for it.
    """
    backdoors = list(backdoors)
    _check(data, backdoors, fraction)
    rng = np.random.default_rng(seed)
    assert data.labels is not None  # _check refuses such data
    images, labels = data.images, data.labels.copy()
    if replaced:
        images = images.copy()
    added: list[tuple[np.ndarray, np.ndarray]] = []
    for backdoor, chosen in zip(backdoors, _choose(labels, backdoors, fraction, rng), strict=True):
        stamped = backdoor.trigger.stamp(data.images[chosen], chosen)
        if replaced:
            images[chosen], labels[chosen] = stamped, backdoor.target
        else:
            added.append((stamped, np.full(len(chosen), backdoor.target, labels.dtype)))
    if added:
        images = np.concatenate([images, *(stamped for stamped, _ in added)])
        labels = np.concatenate([labels, *(target for _, target in added)])
    return replace(data, images=images, labels=labels)


def poisoned_test_set(data: Dataset, backdoor: Backdoor) -> Dataset:
    """The images whose true label is not the target, all stamped and labelled with the target.

    The accuracy on this set is the attack success rate.
    """
    if data.labels is None:
        raise InputError(f"{data.source}: a poisoned test set needs the images' true labels.")
    others = np.flatnonzero(data.labels != backdoor.target)
    stamped = backdoor.trigger.stamp(data.images[others], others)
    labels = np.full(len(others), backdoor.target, np.int64)
    return replace(data, images=stamped, labels=labels)


def _check(data: Dataset, backdoors: Sequence[Backdoor], fraction: float) -> None:
    if data.labels is None:
        raise InputError(f"{data.source}: poisoning needs labelled images.")
    if not backdoors:
        raise InputError("no backdoors were given: expected at least one.")
    if not 0 < fraction <= 1:
        raise InputError(
            f"poisoned fraction: got {fraction}, expected a number above 0 and at most 1."
        )


def _choose(
    labels: np.ndarray, backdoors: Sequence[Backdoor], fraction: float, rng: np.random.Generator
) -> list[np.ndarray]:
    """For each backdoor, the sorted indices of the images that are stamped for it."""
    wanted = np.diff(
        np.round(np.linspace(0, fraction * len(labels), len(backdoors) + 1)).astype(int)
    )
    free = np.ones(len(labels), bool)
    choices = []
    for backdoor, count in zip(backdoors, wanted, strict=True):
        candidates = np.flatnonzero(free & (labels != backdoor.target))
        if count > len(candidates):
            raise InputError(
                f"{count} images were to be poisoned for {backdoor.name}, but only "
                f"{len(candidates)} are left that are not of class {backdoor.target}: "
                f"choose a smaller fraction."
            )
        chosen = np.sort(rng.choice(candidates, count, replace=False))
        free[chosen] = False
        choices.append(chosen)
    return choices
