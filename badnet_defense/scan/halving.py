"""Successive halving: takes the labels' triggers from rung to rung, as tasks for an executor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from badnet_defense.nets.backend import gpu_memory
from badnet_defense.nets.net import Net, call_shapes
from badnet_defense.parallel import executor_for
from badnet_defense.scan.progress import Progress
from badnet_defense.scan.schedule import Rung
from badnet_defense.scan.tasks import Job, invert, measure, predict

LABELS_AT_ONCE = 32
IMAGES_AT_ONCE = 256
"""That go through the net in one step, over all labels of a batch, on a processor. More are hardly
quicker per image, and give workers less to share."""
TASKS_MULTIPLE = 4
"""A rung has one task or a multiple of this many: most machines' cores divide them evenly."""
MAX_BYTES = 2**31
"""Bytes of all layers' outputs that a step on a processor holds for its gradient."""
MEASURED_AT_ONCE = 8
"""Triggers whose ASR one task measures."""
_USABLE, _COPIES = 0.5, 3
"""Of a GPU's memory, what a step may take, and how often it holds each output: as it is, its
gradient, and what the convolutions need beside them."""


def batch_sizes(net: Net, rungs: Sequence[Rung], memory: int = 0) -> list[int]:
    """How many labels a task takes at most on each rung: the more, the larger a GPU's memory is.

    Args:
        net: the net.
        rungs: of all passes.
        memory: bytes of the GPU; 0 for a processor, whose tasks are the same everywhere, so that
            results are.
    """
    bytes_each = 4 * sum(math.prod(shape) for shape in call_shapes(net))
    most, labels = int(_USABLE * memory / (_COPIES * bytes_each)), net.classes
    if not memory:
        most, labels = min(IMAGES_AT_ONCE, MAX_BYTES // bytes_each), LABELS_AT_ONCE
    return [min(labels, max(1, most // rung.images)) for rung in rungs]


def split_labels(labels: np.ndarray, size: int) -> list[np.ndarray]:
    """Labels (n,) in parts as equal as can be: one of at most `size`, or a multiple of four.

    It does not depend on the workers, so that every executor runs the same tasks.

    Examples:
        >>> [len(part) for part in split_labels(np.arange(10), 5)]
        [3, 3, 2, 2]
    """
    parts = -(-len(labels) // size)
    if parts > 1:
        parts = min(len(labels), parts + -parts % TASKS_MULTIPLE)
    return np.array_split(labels, parts)


class SuccessiveHalving:
    """The labels' triggers, within a `with` block.

    Args:
        job, images: what the tasks share (`tasks.Job`).
        labels: how many there are.
        executor: what runs the tasks.
        progress: keeps the finished tasks.
        exclusive: True where no other scan uses the executor. Then, where a processor can take all
            labels at once, this process does: that is one task, and starting workers takes seconds.
    """

    def __init__(
        self,
        job: Job,
        images: np.ndarray,
        labels: int,
        executor: Any,
        progress: Progress,
        exclusive: bool = True,
    ) -> None:
        memory = 0
        if executor.gpus != 0:
            ((_, memory),) = executor.run(gpu_memory, (), [()])
        self.sizes = batch_sizes(job.net, job.rungs, memory)
        tasks = -(-labels // self.sizes[0])
        self.executor = executor_for(tasks, executor) if exclusive else executor
        # Other scans may use the images, so whoever runs several releases them.
        self.released = [job, images] if exclusive else [job]
        self.shared = self.executor.share(job), self.executor.share(images)
        self.progress = progress
        self.states: dict[int, tuple[np.ndarray, ...]] = {}

    def __enter__(self) -> SuccessiveHalving:
        return self

    def __exit__(self, *_: object) -> None:
        """Lets the workers forget the net."""
        for value in self.released:
            self.executor.release(value)

    def predict(self) -> np.ndarray:
        """(n,) the net's own classes of the clean images; see `tasks.predict`."""
        ((_, answers),) = self.executor.run(predict, self.shared, [()])
        return answers

    def run_rung(self, number: int, rung: Rung, labels: np.ndarray, bar: Any) -> np.ndarray:
        """(n,) norms of the labels after a rung; above the area where no trigger was found."""
        norms: dict[int, float] = {}
        missing: dict[str, np.ndarray] = {}
        for batch in split_labels(labels, self.sizes[number]):
            name = f"rung{number}-{batch[0]:05d}-{len(batch)}"
            finished = self.progress.stored(name)
            if finished is None:
                missing[name] = batch
            else:
                self._keep(batch, finished, norms, rung, bar)
        tasks = [(number, batch, self._before(batch)) for batch in missing.values()]
        names = list(missing)
        for place, finished in self.executor.run(invert, self.shared, tasks):
            self.progress.keep(names[place], finished)
            self._keep(missing[names[place]], finished, norms, rung, bar)
        return np.array([norms[label] for label in labels.tolist()])

    def measure(
        self, labels: np.ndarray, masks: np.ndarray, patterns: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(masks, ASR) of triggers as they are stamped; see `measure_attack_success`."""
        cuts = list(range(MEASURED_AT_ONCE, len(labels), MEASURED_AT_ONCE))
        parts = (np.split(array, cuts) for array in (labels, masks, patterns))
        tasks = list(zip(*parts, strict=True))
        measured = dict(self.executor.run(measure, self.shared, tasks))
        grown, rates = zip(*(measured[place] for place in range(len(tasks))), strict=True)
        return np.concatenate(grown), np.concatenate(rates)

    def _keep(
        self,
        batch: np.ndarray,
        finished: dict[str, np.ndarray],
        norms: dict[int, float],
        rung: Rung,
        bar: Any,
    ) -> None:
        for place, label in enumerate(batch.tolist()):
            self.states[label] = tuple(
                finished[part][place] for part in ("mask", "pattern", "cost")
            )
            norms[label] = finished["norm"][place]
        bar.update(len(batch) * rung.steps * rung.images)

    def _before(self, labels: np.ndarray) -> tuple[np.ndarray, ...] | None:
        if labels[0] not in self.states:
            return None
        parts = zip(*(self.states[label] for label in labels.tolist()), strict=True)
        return tuple(np.stack(part) for part in parts)
