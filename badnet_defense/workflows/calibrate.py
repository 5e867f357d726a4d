"""Fits a detector's threshold on clean images that its nets have not learnt from."""

from __future__ import annotations

import logging
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from badnet_defense.detectors.base import Detector
from badnet_defense.detectors.calibration import places_above
from badnet_defense.detectors.registry import (
    check_enough,
    has_threshold,
    make_detector,
    needs_expert,
    needs_repair,
    overlays_needed,
)
from badnet_defense.errors import InputError
from badnet_defense.evaluation.memorised import memorised_caveat
from badnet_defense.evaluation.tails import separated_tail
from badnet_defense.io.dataset import Dataset
from badnet_defense.io.repair_record import RepairRecord
from badnet_defense.nets.net import Net
from badnet_defense.repairs.clean_unlearning import unlearn_clean_task
from badnet_defense.repairs.pseudo_labels import pseudo_labelled
from badnet_defense.report.promises import tail_text
from badnet_defense.workflows.cross_fitting import FoldRepairs, make_fold_repairs

log = logging.getLogger(__name__)

MIN_ABOVE_THRESHOLD = 5
"""Where fewer unseen clean images than this are expected above the threshold, it is
cross-fitted."""
MIN_UNLABELLED, MAX_ONE_CLASS = 20, 0.97
"""Of this many unlabelled images and more, no larger fraction may be predicted as one class."""
MAX_COMPOSED = 3000
"""Images that set a threshold of STRIP's: each goes through the net a hundred times."""
MAX_EXAMINED = 2000
"""Images, drawn at random, that tell whether the suspect model was trained on them."""


@dataclass(frozen=True)
class CalibrationSplit:
    """Clean images, and which of them a repair depends on.

    Attributes:
        data: clean images; where they had no labels, or the repair did not use them, with the
            suspect model's predictions.
        targets: (n, classes) soft labels, where the repair used the model's answers; else None.
        tuned: positions of the images that the repair was tuned on, or that chose its epoch.
        unseen: positions of those that nothing of the repair depends on.
        caveat: under which condition a promise that they make holds at all (`memorised_caveat`);
            None: under none.
    """

    data: Dataset
    targets: np.ndarray | None
    tuned: np.ndarray
    unseen: np.ndarray
    caveat: str | None = None


def split_clean(suspect: Net, repaired: Net | None, data: Dataset) -> CalibrationSplit:
    """Finds out which clean images a repair was tuned on, by what its file records.

    Args:
        suspect: the suspect model.
        repaired: its repair, or None where there is none.
        data: clean images, labelled or not.

    Raises:
        InputError: nearly all images are predicted as one class, or the repair's record is damaged.
    """
    record = None if repaired is None else RepairRecord.from_attributes(repaired.attributes)
    file = "the repaired model" if repaired is None else repaired.attributes.get("file")
    targets, caveat = None, _caveat(suspect, data)
    if data.labels is None or (record and record.pseudo_labels):
        data, targets = pseudo_labelled(suspect, data)
    everything = np.arange(len(data))
    if repaired is not None and not (record and record.knows_images):
        log.warning(
            "%s does not say which images it was tuned on; the false-positive rate holds only if "
            "%s were others",
            file,
            data.source,
        )
    seen = np.zeros(len(data), bool) if record is None else record.depends_on(data)
    if record and record.format_version == 0 and len(seen) and seen.all():
        log.info(
            "%s was made by version 0.1, which chose the epoch by all images that it held out: "
            "none of %s is left that it does not depend on",
            file,
            data.source,
        )
    return CalibrationSplit(data, targets, everything[seen], everything[~seen], caveat)


def _check_several_answers(answers: np.ndarray, source: str) -> None:
    """Refuses unlabelled images that nearly all get one answer (n,): no threshold means anything.

    Labelled images show by their labels that the input range is wrong; these show it only so.
    """
    counts = np.bincount(answers)
    if len(answers) >= MIN_UNLABELLED and counts.max() > MAX_ONE_CLASS * len(answers):
        raise InputError(
            f"{source}: the suspect model predicts class {counts.argmax()} for "
            f"{counts.max() / len(answers):.0%} of these clean images; give images of several "
            "classes, or another input range ([0, 255] for a model that scales its pixels itself)."
        )


def _caveat(suspect: Net, data: Dataset) -> str | None:
    """What suggests that the suspect model was trained on the images, which is logged."""
    sample = data.sample(MAX_EXAMINED, 0)
    answers = suspect.predict_proba(sample.images)
    if data.labels is None:
        _check_several_answers(answers.argmax(axis=-1), data.source)
    caveat = memorised_caveat(answers, sample.labels)
    if caveat:
        log.warning("%s: a false-positive rate that they promise %s", data.source, caveat)
    return caveat


@dataclass(frozen=True)
class CalibratedDetector:
    """A detector with its threshold.

    Attributes:
        detector: the fitted `Detector`.
        unseen: positions of the clean images that set the threshold.
        clean_scores: their scores: (n,), or (members, n) for a vote.
        cross_fitted: True where it was cross-fitted.
        tail: of the images that set the threshold those that stand apart from the rest, as plain
            values (`tail_of`); None where none do.
    """

    detector: Detector
    unseen: np.ndarray
    clean_scores: np.ndarray
    cross_fitted: bool
    tail: dict[str, Any] | None = None


def fit_detector(
    name: str,
    suspect: Net,
    repaired: Net | None,
    split: CalibrationSplit,
    *,
    false_positive_rate: float = 0.01,
    seed: int = 0,
    fold_repairs: FoldRepairs | None = None,
) -> CalibratedDetector:
    """Makes a detector and sets its threshold with images that no net in it has learnt from.

    Args:
        name: of a registered detector (`detectors.DETECTORS`).
        suspect: the suspect model.
        repaired: its repair; may be None where none is needed.
        split: what `split_clean` found of the clean images.
        false_positive_rate: the fraction of clean images that may be flagged, in (0, 1).
        seed: of the overlays, the folds and the expert.
        fold_repairs: what `make_fold_repairs` gave, where several detectors are fitted; None: made
            if needed.

    Raises:
        InputError: too few clean images, or a repair whose record is damaged.
    """
    check_enough(name, len(split.data), false_positive_rate, source=split.data.source)
    fit = _Fit(name, suspect, repaired, split, false_positive_rate, seed)
    if needs_repair(name) and len(fit.unseen) * false_positive_rate < MIN_ABOVE_THRESHOLD:
        fold_repairs = fold_repairs or make_fold_repairs(suspect, repaired, split, seed=seed)
    else:
        fold_repairs = None
    if fold_repairs:
        scores, places = fit.cross_fitted(fold_repairs)
        detector = fit.detector(repaired, fit.learning).fit_scores(scores)
        return fit.reported(CalibratedDetector(detector, places, scores, True))
    if has_threshold(name):
        places_above(len(fit.unseen), false_positive_rate)  # refuses before anything long is done
    detector = fit.detector(repaired, fit.learning)
    scores = detector.raw_scores(split.data.images[fit.unseen])
    return fit.reported(CalibratedDetector(detector.fit_scores(scores), fit.unseen, scores, False))


class _Fit:
    """The pieces of one fit."""

    def __init__(
        self,
        name: str,
        suspect: Net,
        repaired: Net | None,
        split: CalibrationSplit,
        rate: float,
        seed: int,
    ) -> None:
        self.name, self.suspect, self.repaired = name, suspect, repaired
        self.split, self.rate, self.seed = split, rate, seed
        rng = np.random.default_rng((seed, 6))
        self.learning, self.unseen = split.tuned, split.unseen
        if needs_expert(name) and not len(self.learning):  # it has to learn from something
            half = rng.permutation(split.unseen)
            self.learning, self.unseen = np.sort(half[::2]), np.sort(half[1::2])
        needed = overlays_needed(name)
        everything = np.arange(len(split.data))
        pool = self.learning if len(self.learning) >= needed else everything
        self.overlays = np.sort(rng.permutation(pool)[:needed])
        if needed:
            # Without a repair no net was tuned, so that any image is as good.
            candidates = self.unseen if needs_repair(name) else everything
            left = rng.permutation(np.setdiff1d(candidates, self.overlays))
            self.unseen = np.sort(left[:MAX_COMPOSED])

    def detector(self, repaired: Net | None, learning: np.ndarray) -> Any:
        """The detector with this repair, its own expert tuned on `learning`."""
        nets = {"suspect": self.suspect}
        if repaired is not None:
            nets["repaired"] = repaired
        if needs_expert(self.name):
            known = self.split.data.subset(learning)
            nets["expert"] = unlearn_clean_task(self.suspect, known, seed=self.seed)
        overlays = self.split.data.images[self.overlays]
        return make_detector(self.name, nets, false_positive_rate=self.rate, overlays=overlays)

    def cross_fitted(self, fold_repairs: FoldRepairs) -> tuple[np.ndarray, np.ndarray]:
        """(scores, positions): of each image, by the repair that did not learn from it."""
        scores, places = [], []
        for fold, others, repaired in fold_repairs:
            places.append(np.setdiff1d(fold, self.overlays))
            detector = self.detector(repaired, others)
            scores.append(detector.raw_scores(self.split.data.images[places[-1]]))
        return np.concatenate(scores, axis=-1), np.concatenate(places)

    def reported(self, fitted: CalibratedDetector) -> CalibratedDetector:
        """`fitted` with what its promise rests on, which is logged, too."""
        detector, data = fitted.detector, self.split.data
        detector.expected_ = replace(detector.expected_, caveat=self.split.caveat)
        scores, places = fitted.clean_scores, fitted.unseen
        cheap = needs_repair(self.name) and not needs_expert(self.name)
        if cheap and not overlays_needed(self.name) and not fitted.cross_fitted:
            # Two answers per image cost little: a part too small for a tail hides none then.
            places = np.arange(len(data))
            scores = detector.raw_scores(data.images)
        answers = self.suspect.predict(data.images[places])
        tail = tail_of(detector, scores, answers, places, fitted.unseen)
        if tail:
            log.warning("%s: %s", data.source, tail_text(tail))
        return replace(fitted, tail=tail)


def tail_of(
    detector: Any,
    scores: np.ndarray,
    answers: np.ndarray,
    places: np.ndarray,
    calibrating: np.ndarray,
) -> dict[str, Any] | None:
    """The clean images whose scores stand apart from all others: among clean ones, poisoned ones.

    They set the threshold with the others, since whoever leaves out what is odd promises too low
    a rate; what it would be without them is told beside it.

    Args:
        detector: fitted.
        scores: (n,) or, of a vote, (members, n), of the calibrating images and maybe of others.
        answers: (n,) the suspect model's.
        places: (n,) positions of the images in their file.
        calibrating: positions of those that set the threshold.

    Returns:
        {"images": [positions], "answer": the class that most are predicted as, "answered": how
        many, "threshold", "threshold_without": the threshold and what it would be without them;
        None of a vote, whose thresholds are ranks, or where too few images are left}; None where
        none stand apart.
    """
    tails = [separated_tail(one, answers) for one in np.atleast_2d(scores)]
    tail = min((one for one in tails if one), key=lambda tail: tail.chance, default=None)
    if tail is None:
        return None
    without = None
    if np.ndim(scores) == 1:
        with suppress(InputError):  # too few are left
            left = np.setdiff1d(calibrating, places[tail.places])
            rest = copy(detector).fit_scores(scores[np.isin(places, left)])
            without = float(rest.threshold_)
    return {
        "images": [int(place) for place in places[tail.places]],
        "answer": tail.answer,
        "answered": tail.answered,
        "threshold": float(detector.threshold_),
        "threshold_without": without,
    }
