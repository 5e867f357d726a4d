"""A scan's units of work: a batch of labels on one rung, and the judging of a few triggers.

They are plain functions of arrays, so that any engine can do them anywhere (`engine`).
"""

import hashlib
import pickle
import threading
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from badnet_defense.nets.answers import classes_of
from badnet_defense.nets.build import build
from badnet_defense.nets.graph import without_softmax
from badnet_defense.nets.input_range import InputRange
from badnet_defense.nets.net import Net
from badnet_defense.nets.predict import predict_probabilities
from badnet_defense.scan import schedule
from badnet_defense.scan.attack_success import measure_attack_success
from badnet_defense.scan.trigger_inversion import (
    Inversion,
    compiled_step,
    new_triggers,
    opened,
    restarted,
)

MOST_READY = 4
"""Nets that a worker keeps compiled."""
_ready, _preparing = {}, threading.Lock()


@dataclass(frozen=True)
class Job:
    """What all units of a scan share, beside the (n, h, w, c) clean pictures, pixels 0-255.

    Attributes:
        spec: the net (`Net`).
        settings: `Inversion`.
        rungs: tuple of `schedule.Rung`.
        input_range: the net's range.
        seed: of patterns, pictures and shifts.
        key: a digest of all of it, by which a worker knows it again.
    """

    spec: Net
    settings: Inversion
    rungs: tuple
    input_range: InputRange
    seed: int
    key: str

    @classmethod
    def of(cls, *parts):
        """A job of the other attributes, in their order."""
        return cls(*parts, hashlib.sha256(pickle.dumps(parts)).hexdigest())


class _Ready:
    """A job's net, and its compiled steps as they are needed."""

    def __init__(self, job):
        self.net = build(without_softmax(job.spec))
        self.step = cache(
            partial(compiled_step, self.net, job.settings, input_range=job.input_range)
        )


def _prepared(job):
    with _preparing:
        found = _ready.pop(job.key, None) or _Ready(job)
        _ready[job.key] = found  # behind those that were used before
        while len(_ready) > MOST_READY:
            _ready.pop(next(iter(_ready)))
        return found


def invert(job, pictures, number, labels, before):
    """The steps of a rung for a batch of labels.

    Args:
        job, pictures: what the units share.
        number: of the rung; its pictures and shifts are drawn by it and the job's seed, the same
            for every batch.
        labels: (n,) class numbers.
        before: (masks (n, h, w, 1), patterns (n, h, w, c), costs (n,)) of the rung before, or None.

    Returns:
        {"mask", "pattern" (before their tanh), "cost", "norm"}; norms (n,) in pixels, above the
        picture's area where no trigger was found.
    """
    rung, shape = job.rungs[number], job.spec.input_shape
    rng = np.random.default_rng((job.seed, 2, number))
    targets = labels.astype(np.int32)
    if before is None:
        triggers = new_triggers(targets, shape, job.settings, seed=job.seed)
    else:
        triggers = restarted(*before)
    reach, blur = (schedule.pixels(share, shape[:2]) for share in (rung.shift, rung.blur))
    step = _prepared(job).step(reach=reach, blur=blur)
    for _ in range(rung.steps):
        triggers = step(triggers, targets, *rung.batch(pictures, rng))
        if np.min(triggers.waited) >= job.settings.patience:
            break
    return _best(triggers, np.prod(shape[:2]))


def _best(triggers, area):
    norm = np.asarray(triggers.best_norm)
    found = np.isfinite(norm)
    parts = {
        name: np.where(
            found[:, None, None, None], getattr(triggers, f"best_{name}"), getattr(triggers, name)
        )
        for name in ("mask", "pattern")
    }
    # Where no trigger was found yet, the norm so far still says who comes first.
    so_far = area + opened(parts["mask"]).sum(axis=(1, 2, 3))
    return {**parts, "cost": np.asarray(triggers.cost), "norm": np.where(found, norm, so_far)}


def answer(job, pictures):
    """(n,) the net's own classes of the clean pictures; -1 where its answers are no numbers."""
    logits = predict_probabilities(_prepared(job).net, pictures, input_range=job.input_range)
    return classes_of(np, logits)


def judge(job, pictures, labels, masks, patterns):
    """`measure_attack_success` for some labels' triggers, masks and patterns in [0, 1]."""
    return measure_attack_success(
        _prepared(job).net,
        labels,
        masks,
        patterns,
        pictures,
        goal=job.settings.success,
        input_range=job.input_range,
    )
