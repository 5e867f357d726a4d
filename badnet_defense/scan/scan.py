"""A scan: triggers for all labels of a net, and which of the labels are targets."""

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from badnet_defense.nets.input_range import UNIT
from badnet_defense.parallel import Serial
from badnet_defense.scan import halving as ladder
from badnet_defense.scan import schedule
from badnet_defense.scan.attack_success import WORKS
from badnet_defense.scan.outliers import (
    Outliers,
    joint_outliers,
    mad_outliers,
    odds_outliers,
    weight_outliers,
)
from badnet_defense.scan.progress import Progress
from badnet_defense.scan.suitability import check_answers, check_count
from badnet_defense.scan.tasks import Job
from badnet_defense.scan.trigger_inversion import Inversion, opened
from badnet_defense.scan.verdict import BACKDOORED, flagged_by, verdict_of
from badnet_defense.scan.weight_signature import weight_sums


@dataclass(frozen=True)
class Scan:
    """What a scan found. L labels were scanned, F of them all the way.

    Attributes:
        shift, blur: how triggers were measured (`schedule.Rung`).
        labels: (L,) class numbers.
        norms: (L,) L1 norms of their masks in pixels; a lower bound where `stopped`, the whole
            picture where no trigger was found.
        stopped: (L,) True for labels that stopped early, since their triggers were large.
        finished: (F,) class numbers of the others.
        masks: (F, h, w, 1) `float32` in [0, 1].
        patterns: (F, h, w, c) `float32` in [0, 1].
        attack_success: (F,) share of clean pictures of other classes that the trigger sends there.
        outliers: by the default statistic, positions in `labels`.
        mad: by Neural Cleanse's own.
        near: the same before the last rung, with small shifts and sharp triggers; None in `near`
            itself.
        weights: (L,) anomaly indices of the weights into each label; None in `near`, and where the
            last layer has none.
        joint: outliers by both looks' indices and the weights'; None in `near`.
        asked: (A,) class numbers that were asked for, of `labels`; the others were scanned to judge
            them by. None in `near`.
    """

    shift: float
    blur: float
    labels: np.ndarray
    norms: np.ndarray
    stopped: np.ndarray
    finished: np.ndarray
    masks: np.ndarray
    patterns: np.ndarray
    attack_success: np.ndarray
    outliers: Outliers
    mad: Outliers
    near: Any = None
    weights: np.ndarray | None = None
    joint: Outliers | None = None
    asked: np.ndarray | None = None

    def verdict(self):
        """The `Verdict` on the net."""
        return verdict_of(self)

    def flagged(self):
        """Labels that are targets, the surest first; none where the scan cannot judge."""
        verdict = self.verdict()
        return list(verdict.labels) if verdict.verdict == BACKDOORED else []

    def flagged_by(self, label):
        """What flags a label: "index", "sharp pass" or "smooth pass"; None for one that is not."""
        return flagged_by(self)[label] if label in self.flagged() else None

    def smallest(self, count):
        """So many labels that went all the way, those that stand out most first."""
        order = np.argsort(-self.joint.index, kind="stable")
        return [int(self.labels[one]) for one in order if not self.stopped[one]][:count]

    def clearest(self, label):
        """The look at a label that finds it more suspicious."""
        return max((self.near, self), key=lambda look: look.index(label))

    def index(self, label):
        """A label's anomaly index in this look."""
        return float(self.outliers.index[np.flatnonzero(self.labels == label)[0]])

    def trigger(self, label):
        """(mask, pattern, attack success) of a label that went all the way, at its clearest."""
        look = self.clearest(label)
        (place,) = np.flatnonzero(look.finished == label)
        return look.masks[place], look.patterns[place], float(look.attack_success[place])


def scan(
    spec,
    pictures,
    *,
    labels=None,
    budget="fast",
    settings=None,
    input_range=UNIT,
    seed=0,
    progress=None,
    engine=None,
    alone=True,
):
    """Inverts a trigger for each label and flags those whose triggers are suspiciously small.

    Args:
        spec: the net (`Net`).
        pictures: (n, h, w, c) clean pictures, pixels 0-255; no labels are needed.
        labels: class numbers that are asked about; default: all. Where they are few, others are
            scanned beside them (`schedule.BESIDE`), to judge them by.
        budget: "fast" gives most steps to the labels that look small, "full" all steps to all.
        settings: an `Inversion`; default: its defaults.
        input_range: the net's range.
        seed: of patterns, pictures and shifts.
        progress: a `Progress` that keeps finished units.
        engine: what does the units (`badnet_defense.parallel`); default: this process.
        alone: False where many scans go on at once: no progress bar, and every unit is the
            engine's.

    Returns:
        `Scan`.

    Raises:
        CannotJudgeError: the pictures are too few, too alike, or nearly all of one class.
    """
    check_count(pictures)
    asked = np.arange(spec.classes) if labels is None else np.asarray(labels)
    labels = schedule.with_beside(labels, spec.classes, seed=seed)
    rungs = schedule.plan(budget, len(labels))
    job = Job.of(spec, settings or Inversion(), rungs, input_range, seed)
    progress = progress or Progress(None, {})
    weights = _weights(spec, labels)
    references = schedule.references(labels, seed=seed)
    always = references | schedule.suspects(labels, weights)
    sharing = engine or Serial()
    with ladder.Ladder(job, pictures, len(labels), sharing, progress, alone) as way_up:
        check_answers(way_up.answers(), spec.classes)
        finished, history, (early, late) = _climb(way_up, rungs, labels, always, alone)
        judge = partial(way_up.judge, finished)
        # Where all labels went all the way, all are as good a sample as the references.
        all_the_way = len(finished) == len(labels)
        sample = np.isin(labels, finished if all_the_way else list(references))
        measured = partial(_measured, labels=labels, finished=finished, sample=sample, judge=judge)
        near = measured(rungs[-2], early, history[:-1])
        far = measured(rungs[-1], late, history)
    joint = joint_outliers([near.outliers.index, far.outliers.index], weights, sample)
    return replace(far, near=near, weights=weights, joint=joint, asked=asked)


def _weights(spec, labels):
    """(L,) anomaly indices of the weights into the labels, or None."""
    sums = weight_sums(spec)
    return None if sums is None else weight_outliers(sums).index[labels]


def _measured(rung, states, history, labels, finished, sample, judge):
    """The `Scan` of triggers, (mask, pattern) before their tanh for each of the `finished`."""
    blur = schedule.pixels(rung.blur, states[0][0].shape[:2])
    masks, patterns = (opened(np.stack(part), blur) for part in zip(*states, strict=True))
    masks, success = judge(masks, patterns)
    area = np.prod(masks.shape[1:])
    final = np.where(success < WORKS, area, masks.sum(axis=(1, 2, 3)))
    final = dict(zip(finished.tolist(), final.tolist(), strict=True))
    norms = np.minimum(lower_bounds(labels, history, final, set(labels[sample]), area), area)
    return Scan(
        shift=rung.shift,
        blur=rung.blur,
        labels=labels,
        norms=norms,
        stopped=~np.isin(labels, finished),
        finished=finished,
        masks=masks.astype(np.float32),
        patterns=patterns.astype(np.float32),
        attack_success=success,
        outliers=odds_outliers(norms, area, sample),
        mad=mad_outliers(norms, sample),
    )


def way(budget, settings=None):
    """Everything beside net, pictures, labels and seed that decides a scan's units, for JSON."""
    rungs = [asdict(rung) for rung in schedule.BUDGETS[budget]]
    sizes = [ladder.LABELS_AT_ONCE, ladder.PICTURES_AT_ONCE, ladder.SHARED_BY]
    sizes += [schedule.LEAST, schedule.REFERENCES, schedule.SUSPECTS, schedule.PLACES]
    sizes += [schedule.BESIDE]
    return [asdict(settings or Inversion()), rungs, sizes]


def _climb(way_up, rungs, labels, always, alone):
    """(labels that went all the way, {label: norm} of each rung, the last two rungs' triggers)."""
    total = schedule.picture_gradients(rungs, len(labels))
    history, looks = [], []
    with tqdm(
        total=total,
        desc="inverting",
        unit="picture",
        unit_scale=True,
        disable=None if alone else True,
    ) as bar:
        for number, rung in enumerate(rungs):
            norms = way_up.climb(number, rung, labels, bar)
            history.append(dict(zip(labels.tolist(), norms.tolist(), strict=True)))
            labels = schedule.survivors(labels, norms, rung, always)
            looks.append({label: way_up.states[label][:2] for label in labels.tolist()})
    return labels, history, [[look[label] for label in labels.tolist()] for look in looks[-2:]]


def lower_bounds(labels, history, final, always, area):
    """Final norms, and for labels that stopped early what they could at best have fallen to.

    The references, drawn at random, show by which factor norms fall after each rung; a stopped
    label's bound is its norm times the smallest of their factors. A reference that is itself an
    outlier among them may be a target, which shows nothing about the others.

    Args:
        labels: (L,) class numbers.
        history: a {label: norm} for each rung.
        final: {label: norm} of those that went all the way.
        always: the references' labels.
        area: pixels of a picture.

    Returns:
        (L,) norms.
    """
    known = [label for label in final if label in always] or list(final)
    odd = odds_outliers([final[label] for label in known], area).flagged
    known = [label for place, label in enumerate(known) if place not in odd]
    factors = [min(_factor(final[label], norms[label]) for label in known) for norms in history]
    bounds = []
    for label in labels.tolist():
        last = max(number for number, norms in enumerate(history) if label in norms)
        bounds.append(final.get(label, history[last][label] * factors[last]))
    return np.array(bounds)


def _factor(later, before):
    """What a norm is multiplied by from one rung to another; a trigger of nothing stays one."""
    return later / before if before else 1.0


def whole_scan(pictures, spec, settings):
    """A scan as one unit of work; `settings` as `scan` takes them."""
    return scan(spec, pictures, alone=False, **settings)
