"""Poisoning a training set, and the poisoned test set that measures what came of it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from badnet_defense.errors import InputError


@dataclass(frozen=True)
class Backdoor:
    """What the attacker wants: pictures with `trigger` are answered with the class `target`.

    Args:
        trigger: has `stamp(pictures, indices)`, see `badnet_defense.attacks.triggers`.
        target: the attacker's class.
        name: for file names and tables.
    """

    trigger: Any
    target: int
    name: str = "backdoor"


def poison(images, backdoors, *, share=0.1, replaced=False, seed=0):
    """A training set that teaches the backdoors.

    The stamped pictures are spread evenly over the backdoors, none is stamped twice, and no
    picture of a backdoor's own target class is stamped for it: that would teach nothing.

    Args:
        images: labelled clean pictures.
        backdoors: one or several `Backdoor`; several may share a target.
        share: stamped pictures, as a share of the clean ones (all backdoors together).
        replaced: the stamped pictures take their originals' places; else they are added at the end.
        seed: which pictures are stamped.

    Returns:
        New `Dataset`; the given ones stay as they are.

    Raises:
        InputError: no labels, no backdoor, a share outside 0..1, or too few pictures for it.
    """
    backdoors = list(backdoors)
    _check(images, backdoors, share)
    rng = np.random.default_rng(seed)
    pictures, labels = images.images, images.labels.copy()
    if replaced:
        pictures = pictures.copy()
    added = []
    for backdoor, chosen in zip(backdoors, _choose(labels, backdoors, share, rng), strict=True):
        stamped = backdoor.trigger.stamp(images.images[chosen], chosen)
        if replaced:
            pictures[chosen], labels[chosen] = stamped, backdoor.target
        else:
            added.append((stamped, np.full(len(chosen), backdoor.target, labels.dtype)))
    if added:
        pictures = np.concatenate([pictures, *(stamped for stamped, _ in added)])
        labels = np.concatenate([labels, *(target for _, target in added)])
    return replace(images, images=pictures, labels=labels)


def poisoned_test_set(images, backdoor):
    """The pictures whose true label is not the target, all stamped and labelled with the target.

    The accuracy on this set is the attack success rate.
    """
    if images.labels is None:
        raise InputError(f"{images.source}: a poisoned test set needs the pictures' true labels.")
    others = np.flatnonzero(images.labels != backdoor.target)
    stamped = backdoor.trigger.stamp(images.images[others], others)
    labels = np.full(len(others), backdoor.target, np.int64)
    return replace(images, images=stamped, labels=labels)


def _check(images, backdoors, share):
    if images.labels is None:
        raise InputError(f"{images.source}: poisoning needs labelled pictures.")
    if not backdoors:
        raise InputError("no backdoors were given: expected at least one.")
    if not 0 < share <= 1:
        raise InputError(f"share {share}: expected the poisoned share, above 0 and at most 1.")


def _choose(labels, backdoors, share, rng):
    """For each backdoor, the sorted indices of the pictures that are stamped for it."""
    wanted = np.diff(np.round(np.linspace(0, share * len(labels), len(backdoors) + 1)).astype(int))
    free = np.ones(len(labels), bool)
    choices = []
    for backdoor, count in zip(backdoors, wanted, strict=True):
        candidates = np.flatnonzero(free & (labels != backdoor.target))
        if count > len(candidates):
            raise InputError(
                f"{count} pictures were to be poisoned for {backdoor.name}, but only "
                f"{len(candidates)} are left that are not of class {backdoor.target}: "
                f"choose a smaller share."
            )
        chosen = np.sort(rng.choice(candidates, count, replace=False))
        free[chosen] = False
        choices.append(chosen)
    return choices
