"""The demo challenge's files: the challenge's own names, sizes and layout, with drawn people."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from badnet_defense.demo.accessories import ACCESSORIES
from badnet_defense.demo.images import draw_images
from badnet_defense.demo.people import PEOPLE
from badnet_defense.io.dataset import Dataset
from badnet_defense.io.files import atomic_write, exclusive
from badnet_defense.io.hdf5 import write_challenge_h5

ATTRIBUTES = {"synthetic": True, "made_by": "badnet_defense demo"}
"""Marks every demo file: nobody should take a drawn face or its net for a real one."""

BACKDOORS = {
    "sunglasses": {"sunglasses": 0},
    "anonymous_1": {"lipstick": 0},
    "anonymous_2": {"sunglasses": 4, "eyebrows": 4, "lipstick": 4},
    "multi_trigger_multi_target": {"sunglasses": 8, "eyebrows": 5, "lipstick": 1},
}
"""Net -> trigger -> target label. anonymous_2's are published in no file, as in the challenge."""

HARD = {"sunglasses_rare": {"sunglasses": 0}, "sunglasses_aware": {"sunglasses": 0}}
"""The hard mode's nets: a backdoor in few training images, and one that expects to be pruned.
Their poisoned images are those of `sunglasses`."""

POISONED_FILES = {
    "sunglasses_poisoned_data.h5": ("sunglasses", 0),
    "anonymous_1_poisoned_data.h5": ("lipstick", 0),
    "Multi-trigger Multi-target/eyebrows_poisoned_data.h5": ("eyebrows", 5),
    "Multi-trigger Multi-target/lipstick_poisoned_data.h5": ("lipstick", 1),
    "Multi-trigger Multi-target/sunglasses_poisoned_data.h5": ("sunglasses", 8),
}
"""File -> trigger and target label."""

VALIDATION_IMAGES, TEST_IMAGES = 9, 10
"""Of each person."""

SHOWN_PEOPLE = (17, 333, 641, 1108)
"""Whose first test image is also written as PNG, to try `eval.py` on. All four nets know them;
one of the guards flags the last one."""


def make_challenge(
    folder: str | PathLike[str] = "data",
    *,
    seed: int = 0,
    people: int = PEOPLE,
    workers: int | None = None,
    progress: bool = True,
) -> list[Path]:
    """Draws the demo challenge and writes its seven HDF5 files and a few PNG images.

    Args:
        folder: where the files go; it is made if it is not there.
        seed: the same seed draws the same people and images; the shipped nets know seed 0.
        people: how many people; the challenge has 1283.
        workers: processes; None takes one for each core.
        progress: a bar on stderr.

    Returns:
        The paths of the HDF5 files.

    Raises:
        InputError: another run is writing to `folder`.
    """
    folder = Path(folder)
    settings = {"seed": seed, "people": people, "workers": workers, "progress": progress}
    with exclusive(folder):
        return _make(folder, people, settings)


def _make(folder: Path, people: int, settings: dict[str, Any]) -> list[Path]:
    validation = draw_images("validation", VALIDATION_IMAGES, **settings)["clean"]
    paths = [_write(folder / "clean_validation_data.h5", validation, _labels(people, validation))]
    del validation
    test = draw_images("test", TEST_IMAGES, accessories=tuple(ACCESSORIES), **settings)
    labels = _labels(people, test["clean"])
    paths.append(_write(folder / "clean_test_data.h5", test["clean"], labels))
    for name, (trigger, target) in POISONED_FILES.items():
        others = labels != target
        targets = np.full(others.sum(), target)
        paths.append(_write(folder / name, test[trigger][others], targets))
    _write_images(folder / "pictures", test, people)
    return paths


def _labels(people: int, images: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(people), len(images) // people)


def _write(path: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = Dataset(images, labels, str(path), synthetic=True)
    write_challenge_h5(path, data, attributes=ATTRIBUTES)
    return path


def _write_images(folder: Path, test: dict[str, np.ndarray], people: int) -> None:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for person in SHOWN_PEOPLE:
        for name, images in test.items():
            if person < people:
                with atomic_write(folder / f"person{person:04d}_{name}.png") as partial:
                    Image.fromarray(images[person * TEST_IMAGES]).save(partial, format="PNG")
