"""Carries the labels' triggers from rung to rung, cut into units of work for an engine."""

import math

import numpy as np

from badnet_defense.nets.backend import gpu_memory
from badnet_defense.nets.net import call_shapes
from badnet_defense.parallel import engine_for
from badnet_defense.scan.tasks import answer, invert, judge

LABELS_AT_ONCE = 32
PICTURES_AT_ONCE = 256
"""On the way through the net in one step, over all labels of a batch, on a processor. More are
hardly quicker for each, and give workers less to share."""
SHARED_BY = 4
"""Units of a rung are so many, or several times so many: most machines' cores divide them."""
HELD_AT_ONCE = 2**31
"""Bytes of all results that a step on a processor holds for its gradient."""
JUDGED_AT_ONCE = 8
_USABLE, _TIMES = 0.5, 3
"""Of a GPU's memory, what a step may take, and how often it holds each result: as it is, its
gradient, and what the convolutions need beside them."""


def batches(spec, rungs, memory=0):
    """How many labels a unit takes at most on each rung: the more, the larger a GPU's memory is.

    Args:
        spec: the net.
        rungs: `schedule.Rung`s.
        memory: bytes of the GPU; 0 for a processor, whose units are the same everywhere, so that
            results are.
    """
    bytes_each = 4 * sum(math.prod(shape) for shape in call_shapes(spec))
    most, labels = int(_USABLE * memory / (_TIMES * bytes_each)), spec.classes
    if not memory:
        most, labels = min(PICTURES_AT_ONCE, HELD_AT_ONCE // bytes_each), LABELS_AT_ONCE
    return [min(labels, max(1, most // rung.images)) for rung in rungs]


def cut(labels, size):
    """Labels (n,) in parts as equal as can be: one of at most `size`, or fours of them.

    It does not depend on the workers, so that every engine does the same units.
    """
    parts = -(-len(labels) // size)
    if parts > 1:
        parts = min(len(labels), parts + -parts % SHARED_BY)
    return np.array_split(labels, parts)


class Ladder:
    """The labels' triggers on their way, within a `with` block.

    Args:
        job, pictures: what the units share (`units.Job`).
        labels: how many there are.
        engine: what does the units.
        progress: `Progress`, which keeps the finished ones.
        alone: True where no other scan goes on. Then, where a processor can take all labels at
            once, this process does: that is one unit, and starting workers takes seconds.
    """

    def __init__(self, job, pictures, labels, engine, progress, alone=True):
        memory = 0
        if engine.gpus != 0:
            ((_, memory),) = engine.run(gpu_memory, (), [()])
        self.sizes = batches(job.spec, job.rungs, memory)
        self.engine = engine_for(-(-labels // self.sizes[0]), engine) if alone else engine
        # Other scans may use the pictures, so whoever runs several forgets them.
        self.own = [job, pictures] if alone else [job]
        self.shared = self.engine.share(job), self.engine.share(pictures)
        self.progress, self.states = progress, {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Lets the workers forget the net."""
        for value in self.own:
            self.engine.release(value)

    def answers(self):
        """(n,) the net's own classes of the clean pictures; see `units.answer`."""
        ((_, answers),) = self.engine.run(answer, self.shared, [()])
        return answers

    def climb(self, number, rung, labels, bar):
        """(n,) norms of the labels after a rung; above the area where no trigger was found."""
        norms, missing = {}, {}
        for batch in cut(labels, self.sizes[number]):
            name = f"rung{number}-{batch[0]:05d}-{len(batch)}"
            unit = self.progress.stored(name)
            if unit is None:
                missing[name] = batch
            else:
                self._note(batch, unit, norms, rung, bar)
        units = [(number, batch, self._before(batch)) for batch in missing.values()]
        names = list(missing)
        for place, unit in self.engine.run(invert, self.shared, units):
            self.progress.keep(names[place], unit)
            self._note(missing[names[place]], unit, norms, rung, bar)
        return np.array([norms[label] for label in labels.tolist()])

    def judge(self, labels, masks, patterns):
        """(masks, attack success) of triggers as they are stamped; see `measure_attack_success`."""
        cuts = range(JUDGED_AT_ONCE, len(labels), JUDGED_AT_ONCE)
        units = list(zip(*(np.split(one, cuts) for one in (labels, masks, patterns)), strict=True))
        judged = dict(self.engine.run(judge, self.shared, units))
        masks, success = zip(*(judged[place] for place in range(len(units))), strict=True)
        return np.concatenate(masks), np.concatenate(success)

    def _note(self, batch, unit, norms, rung, bar):
        for place, label in enumerate(batch.tolist()):
            self.states[label] = tuple(unit[part][place] for part in ("mask", "pattern", "cost"))
            norms[label] = unit["norm"][place]
        bar.update(len(batch) * rung.steps * rung.images)

    def _before(self, labels):
        if labels[0] not in self.states:
            return None
        parts = zip(*(self.states[label] for label in labels.tolist()), strict=True)
        return tuple(np.stack(part) for part in parts)
