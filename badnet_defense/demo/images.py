"""Many images of many people, drawn in parallel; the same ones for any number of workers."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from badnet_defense.demo.accessories import ACCESSORIES, wear
from badnet_defense.demo.drawing import draw_face
from badnet_defense.demo.people import PEOPLE, draw_person
from badnet_defense.demo.shots import HEIGHT, WIDTH, develop, draw_shot
from badnet_defense.errors import InputError

_SPLITS = {"validation": 1, "test": 2, "train": 3}
_CHUNK = 128
_Task = tuple[int, str, int, tuple[str, ...], np.ndarray]


def draw_images(
    split: str,
    per_person: int,
    *,
    accessories: Sequence[str] = (),
    indices: np.ndarray | None = None,
    seed: int = 0,
    people: int = PEOPLE,
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, np.ndarray]:
    """Draws `per_person` images of each person; image i shows person i // per_person.

    Every image has its own random generator, made of seed, split, person and its number: it does
    not depend on the workers, nor on how many others are drawn.

    Args:
        split: "validation", "test" or "train": different images of the same people.
        per_person: images of each person.
        accessories: of "sunglasses", "lipstick", "eyebrows": the same images with each of them.
        indices: draw these images only, (n,) of 0..people * per_person - 1; None draws all.
        seed: people and images.
        people: how many people.
        workers: processes; None takes one for each core, 1 draws in this process.
        progress: a bar on stderr.

    Returns:
        A dict of `uint8` arrays (n, 55, 47, 3): "clean", and one for each accessory.

    Raises:
        InputError: an unknown split or accessory.

    Examples:
        >>> drawn = draw_images("test", 1, people=2, workers=1, progress=False)
        >>> drawn["clean"].shape
        (2, 55, 47, 3)
    """
    from tqdm import tqdm

    _check(split, accessories)
    indices = np.arange(people * per_person) if indices is None else np.asarray(indices)
    names = ("clean", *accessories)
    drawn = {name: np.empty((len(indices), HEIGHT, WIDTH, 3), np.uint8) for name in names}
    starts = range(0, len(indices), _CHUNK)
    tasks = [
        (seed, split, per_person, tuple(accessories), indices[start : start + _CHUNK])
        for start in starts
    ]
    bar = tqdm(total=len(indices), desc=f"drawing {split}", unit="image", disable=not progress)
    with bar:
        for start, images in zip(starts, _in_parallel(tasks, workers), strict=True):
            for name in names:
                drawn[name][start : start + _CHUNK] = images[name]
            bar.update(len(images["clean"]))
    return drawn


class ImagesWearing:
    """The images of one split with one accessory, drawn when they are asked for.

    Stands in for an array in `RenderedTrigger`, where only a poisoned tenth is ever needed.

    Args:
        accessory: "sunglasses", "lipstick" or "eyebrows".
        split, per_person, settings: as for `draw_images`.
    """

    def __init__(self, accessory: str, split: str, per_person: int, **settings: Any) -> None:
        self._accessory, self._split, self._per_person = accessory, split, per_person
        self._settings = settings

    def __len__(self) -> int:
        return self._per_person * self._settings.get("people", PEOPLE)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """The images (n, 55, 47, 3) `uint8` at the integers `indices` (n,)."""
        drawn = draw_images(
            self._split,
            self._per_person,
            accessories=(self._accessory,),
            indices=indices,
            **self._settings,
        )
        return drawn[self._accessory]


def _check(split: str, accessories: Iterable[str]) -> None:
    if split not in _SPLITS:
        raise InputError(f"split {split!r}: expected one of {', '.join(_SPLITS)}.")
    for accessory in accessories:
        if accessory not in ACCESSORIES:
            raise InputError(f"accessory {accessory!r}: expected one of {', '.join(ACCESSORIES)}.")


def _in_parallel(tasks: Sequence[_Task], workers: int | None) -> Iterator[dict[str, np.ndarray]]:
    """`_draw_chunk` of each task, in their order."""
    workers = min(workers or os.cpu_count() or 1, len(tasks))
    if workers <= 1:
        yield from map(_draw_chunk, tasks)
        return
    # Forking would copy TensorFlow's threads in a locked state where the caller has imported it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(_draw_chunk, tasks)


def _draw_chunk(task: _Task) -> dict[str, np.ndarray]:
    seed, split, per_person, accessories, indices = task
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in ("clean", *accessories)}
    for index in indices.tolist():
        number, shot_number = divmod(index, per_person)
        person = draw_person(number, seed=seed)
        entropy = (seed, _SPLITS[split], number, shot_number)
        rng = np.random.default_rng(np.random.SeedSequence(entropy))
        shot = draw_shot(rng)
        clean = develop(draw_face(person, shot), shot, rng)
        drawn["clean"].append(clean)
        for accessory in accessories:
            drawn[accessory].append(wear(clean, accessory, person, shot))
    return {name: np.stack(images) for name, images in drawn.items()}
