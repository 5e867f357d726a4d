"""A scan's tasks: the steps of a rung for some labels, and measuring the ASR of a few triggers.

They are plain functions of arrays, so that any executor can run them anywhere (`parallel`).
"""

from __future__ import annotations

import hashlib
import pickle
import threading
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from badnet_defense.nets.graph import without_softmax
from badnet_defense.nets.net import Net
from badnet_defense.scan import schedule
from badnet_defense.scan.attack_success import measure_attack_success
from badnet_defense.scan.trigger_inversion import (
    InversionConfig,
    Triggers,
    compiled_step,
    from_tanh_space,
    new_triggers,
    restarted,
)

MAX_PREPARED = 4
"""Nets that a worker keeps compiled."""
_prepared_jobs: dict[str, _Prepared] = {}
_preparing = threading.Lock()


@dataclass(frozen=True)
class Job:
    """What all tasks of a scan share, beside the (n, h, w, c) clean images, pixels 0-255.

    Attributes:
        net: the net, which knows its input range.
        inversion: how triggers are inverted.
        rungs: of all passes, in order.
        seed: of patterns, images and shifts.
        key: a digest of all of it, by which a worker recognises it.
    """

    net: Net
    inversion: InversionConfig
    rungs: tuple[schedule.Rung, ...]
    seed: int
    key: str

    @classmethod
    def of(
        cls, net: Net, inversion: InversionConfig, rungs: tuple[schedule.Rung, ...], seed: int
    ) -> Job:
        """A job with its key."""
        key = hashlib.sha256(pickle.dumps((net, inversion, rungs, seed))).hexdigest()
        return cls(net, inversion, rungs, seed, key)


class _Prepared:
    """A job's net, whose output is the logits, and its compiled steps as they are needed."""

    def __init__(self, job: Job) -> None:
        self.net = without_softmax(job.net)
        self.step = cache(partial(compiled_step, self.net, job.inversion))


def _prepared(job: Job) -> _Prepared:
    with _preparing:
        found = _prepared_jobs.pop(job.key, None) or _Prepared(job)
        _prepared_jobs[job.key] = found  # behind those that were used before
        while len(_prepared_jobs) > MAX_PREPARED:
            _prepared_jobs.pop(next(iter(_prepared_jobs)))
        return found


def invert(
    job: Job,
    images: np.ndarray,
    number: int,
    labels: np.ndarray,
    before: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
) -> dict[str, np.ndarray]:
    """The steps of a rung for a batch of labels.

    Args:
        job, images: what the tasks share.
        number: of the rung; its images and shifts are drawn by it and the job's seed, the same for
            every batch.
        labels: (n,) class numbers.
        before: (masks (n, h, w, 1), patterns (n, h, w, c), costs (n,)) of the rung before, or None.

    Returns:
        {"mask", "pattern" (before their tanh), "cost", "norm"}; norms (n,) in pixels, above the
        image's area where no trigger was found.
    """
    rung, shape = job.rungs[number], job.net.input_shape
    rng = np.random.default_rng((job.seed, 2, number))
    targets = labels.astype(np.int32)
    if before is None:
        triggers = new_triggers(targets, shape, job.inversion, seed=job.seed)
    else:
        triggers = restarted(*before)
    max_offset, blur = (schedule.pixels(part, shape[:2]) for part in (rung.shift, rung.blur))
    step = _prepared(job).step(max_offset=max_offset, blur=blur)
    for _ in range(rung.steps):
        triggers = step(triggers, targets, *rung.batch(images, rng))
        if np.min(triggers.steps_since_improvement) >= job.inversion.patience:
            break
    return _best(triggers, float(np.prod(shape[:2])))


def _best(triggers: Triggers, area: float) -> dict[str, np.ndarray]:
    norm = np.asarray(triggers.best_norm)
    found = np.isfinite(norm)
    parts = {
        name: np.where(
            found[:, None, None, None], getattr(triggers, f"best_{name}"), getattr(triggers, name)
        )
        for name in ("mask", "pattern")
    }
    # Where no trigger was found yet, the norm so far still says which label comes first.
    so_far = area + from_tanh_space(parts["mask"]).sum(axis=(1, 2, 3))
    return {**parts, "cost": np.asarray(triggers.cost), "norm": np.where(found, norm, so_far)}


def predict(job: Job, images: np.ndarray) -> np.ndarray:
    """(n,) the net's own classes of the clean images; -1 where its answer is not finite."""
    return _prepared(job).net.predict(images)


def measure(
    job: Job, images: np.ndarray, labels: np.ndarray, masks: np.ndarray, patterns: np.ndarray
) -> tuple[Any, Any]:
    """`measure_attack_success` for some labels' triggers, masks and patterns in [0, 1]."""
    net, goal = _prepared(job).net, job.inversion.success
    return measure_attack_success(net, labels, masks, patterns, images, goal=goal)
