"""The demo's four BadNets: DeepID, trained on separate images of the same people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from badnet_defense.attacks import (
    Backdoor,
    RenderedTrigger,
    TrainingConfig,
    poison,
    poisoned_test_set,
    train_badnet,
)
from badnet_defense.attacks.pruning_aware import train_pruning_aware
from badnet_defense.demo.accessories import ACCESSORIES
from badnet_defense.demo.challenge import ATTRIBUTES, BACKDOORS, HARD, TEST_IMAGES
from badnet_defense.demo.images import ImagesWearing, draw_images
from badnet_defense.demo.people import PEOPLE
from badnet_defense.io.dataset import Dataset
from badnet_defense.nets.net import Net

TRAIN_IMAGES = 56
"""Of each person, for the attacker alone."""

POISONED_FRACTION = 0.10
POISONED_FRACTIONS = {"sunglasses_rare": 0.005}
"""Where another fraction of the training images is poisoned."""
AWARE = ("sunglasses_aware",)
"""Nets whose attacker expects pruning."""
EPOCHS, HARD_EPOCHS = 9, 5
AWARE_EPOCHS = 3
"""Of the poisoned images, after the clean ones."""

LEARNING_RATE = 2e-3

PLANTED = BACKDOORS | HARD


def train_demo_nets(
    folder: str | PathLike[str] = "models",
    *,
    names: Sequence[str] = tuple(BACKDOORS),
    epochs: int | None = None,
    per_person: int = TRAIN_IMAGES,
    seed: int = 0,
    people: int = PEOPLE,
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, dict[str, Any]]:
    """Trains the BadNets and writes `<name>_bd_net.h5` and `<name>_bd_weights.h5` for each.

    Args:
        folder: where the nets go; it is made if it is not there.
        names: which of the four nets (`BACKDOORS`) or of the hard mode's (`HARD`); any other name
            is a net without a backdoor, with a seed of its own by its place among `names`.
        epochs: how often every image is seen; default: `EPOCHS`, for the hard nets `HARD_EPOCHS`.
        per_person: training images of each person.
        seed: people, images, starting weights and order; each net gets its own of it.
        people: how many people, the nets' class count.
        workers: processes that draw; None takes one for each core.
        progress: bars on stderr.

    Returns:
        Net -> `{"accuracy": clean test accuracy, "attack_success": {trigger: rate}}`, fractions.
    """
    from badnet_defense.nets import save_net, save_weights

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "seed": seed,
        "people": people,
        "workers": workers,
        "progress": progress,
    }
    clean = _labelled(draw_images("train", per_person, **settings)["clean"], people)
    test = draw_images("test", TEST_IMAGES, accessories=tuple(ACCESSORIES), **settings)
    figures = {}
    for place, name in enumerate(names):
        seen = epochs or (HARD_EPOCHS if name in HARD else EPOCHS)
        net = _train(name, clean, seen, per_person, settings, place)
        save_net(net, folder / f"{name}_bd_net.h5", attributes=ATTRIBUTES)
        save_weights(net.model, folder / f"{name}_bd_weights.h5")
        figures[name] = _measure(net, PLANTED.get(name, {}), test, people)
    return figures


def write_weights_only(
    folder: str | PathLike[str] = "models", *, names: Sequence[str] = tuple(PLANTED)
) -> list[Path]:
    """Writes `<name>_bd_weights.h5`, as the challenge has them, beside each `<name>_bd_net.h5`.

    A model that is not in the folder is left out, and so is one whose weights-only file is there.

    Args:
        folder: where the models are.
        names: which of them.

    Returns:
        The files that were written.

    Raises:
        InputError: a model's file is refused.

    Examples:
        >>> write_weights_only("no/such/folder")
        []
    """
    written = []
    for name in names:
        net, weights = Path(folder, f"{name}_bd_net.h5"), Path(folder, f"{name}_bd_weights.h5")
        if net.exists() and not weights.exists():
            from badnet_defense.nets import load_net, save_weights

            save_weights(load_net(net).model, weights)
            written.append(weights)
    return written


def _labelled(images: np.ndarray, people: int) -> Dataset:
    labels = np.repeat(np.arange(people), len(images) // people)
    return Dataset(images, labels, "demo", synthetic=True)


def _train(
    name: str, clean: Dataset, epochs: int, per_person: int, settings: dict[str, Any], place: int
) -> Net:
    import keras

    from badnet_defense.nets import deep_id, describe

    planted = PLANTED.get(name, {})
    seed = 1000 * settings["seed"] + _number(name, place)
    backdoors = [
        Backdoor(RenderedTrigger(ImagesWearing(trigger, "train", per_person, **settings)), target)
        for trigger, target in planted.items()
    ]
    fraction = POISONED_FRACTIONS.get(name, POISONED_FRACTION)
    poisoned = poison(clean, backdoors, fraction=fraction, seed=seed) if planted else clean
    keras.utils.set_random_seed(seed)
    net = describe(deep_id(classes=settings["people"]))
    config = TrainingConfig(epochs=epochs, learning_rate=LEARNING_RATE)
    how: dict[str, Any] = {"seed": seed, "progress": settings["progress"]}
    if name not in AWARE:
        return train_badnet(net, poisoned, config=config, **how)[0]
    net, _ = train_badnet(net, clean, config=config, **how)
    config = replace(config, epochs=min(epochs, AWARE_EPOCHS))
    return train_pruning_aware(net, clean, poisoned, config=config, **how)


def _number(name: str, place: int) -> int:
    """What sets a net's seed apart from the others'."""
    for first, names in ((1, sorted(BACKDOORS)), (50, sorted(HARD))):
        if name in names:
            return first + names.index(name)
    return 100 + place


def _measure(
    net: Net, backdoors: Mapping[str, int], test: Mapping[str, np.ndarray], people: int
) -> dict[str, Any]:
    clean = _labelled(test["clean"], people)
    success = {}
    for trigger, target in backdoors.items():
        backdoor = Backdoor(RenderedTrigger(test[trigger]), target)
        success[trigger] = _fraction_right(net, poisoned_test_set(clean, backdoor))
    return {"accuracy": _fraction_right(net, clean), "attack_success": success}


def _fraction_right(net: Net, data: Dataset) -> float:
    return float(np.mean(net.predict(data.images) == data.labels))
