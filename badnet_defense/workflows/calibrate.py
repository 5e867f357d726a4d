"""Fits a detector's threshold on clean pictures that its nets have not learnt from."""

import logging
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from badnet_defense.detectors.base import Detector
from badnet_defense.detectors.calibration import places_above
from badnet_defense.detectors.registry import (
    OVERLAID,
    PAIRED,
    check_enough,
    make_detector,
    overlays_needed,
)
from badnet_defense.errors import InputError
from badnet_defense.evaluation.memorised import memorised_caveat
from badnet_defense.evaluation.tails import separated_tail
from badnet_defense.guards.pairing import noted_seed
from badnet_defense.io.dataset import Dataset
from badnet_defense.nets import build, describe, predict_labels
from badnet_defense.nets.predict import predict_probabilities
from badnet_defense.repairs.clean_unlearning import unlearn_clean_task
from badnet_defense.repairs.pseudo_labels import pseudo_labelled
from badnet_defense.repairs.validated_tuning import SPLIT, validation_split
from badnet_defense.report.promises import tail_text
from badnet_defense.workflows.cross_fitting import like_repairs

log = logging.getLogger(__name__)

FEW = 5
"""Where fewer unseen clean pictures than this are expected above the threshold, it is
cross-fitted."""
LEAST_ASKED, MOST_OF_ONE = 20, 0.97
"""Of so many unlabelled images and more, no larger share may get one answer of the suspect."""
MOST_OVERLAID = 3000
"""Pictures that set a threshold of STRIP's: each goes through the net a hundred times."""
MOST_ASKED = 2000
"""Images, drawn at random, that tell whether the suspect model knows them by heart."""


@dataclass(frozen=True)
class Clean:
    """Clean pictures, and which of them a repair depends on.

    Attributes:
        images: `Dataset`; where they had no labels, or the repair did not use them, the bad
            net's answers.
        targets: (n, classes) soft labels, where the repair used the net's answers; else None.
        tuned: positions of the pictures that the repair was tuned on, or that chose its epoch.
        unseen: positions of those that nothing of the repair depends on.
        caveat: under which condition a promise that they make holds at all (`memorised_caveat`);
            None: under none.
    """

    images: Dataset
    targets: np.ndarray | None
    tuned: np.ndarray
    unseen: np.ndarray
    caveat: str | None = None


def split_clean(images, bad, repaired, *, input_range):
    """Finds out which clean pictures a repair was tuned on, by what its file notes.

    Args:
        images: `Dataset`, labelled or not.
        bad: `keras.Model`.
        repaired: `Net`, or None where there is no repair.
        input_range: the nets' range.

    Returns:
        `Clean`.
    """
    notes = {} if repaired is None else repaired.attributes
    targets, own = None, notes.get("tuned_on") == images.fingerprint()
    caveat = _caveat(images, bad, input_range)
    if images.labels is None or notes.get("tuned_on_pseudo_labels"):
        images, targets = pseudo_labelled(describe(bad).with_range(input_range), images)
    everything = np.arange(len(images))
    if repaired is not None and "tuned_on" not in notes:
        log.warning(
            "%s does not say which pictures it was tuned on; the false-alarm rate holds only if "
            "%s were others",
            notes.get("file", "the repaired net"),
            images.source,
        )
    if not own:
        return Clean(images, targets, everything[:0], everything, caveat)
    seed = noted_seed(repaired)
    if notes.get("tuned_on_parts") != SPLIT:
        log.info(
            "%s was made by version 0.1, which chose the epoch by all pictures that it held out: "
            "none of %s is left that it does not depend on",
            notes["file"],
            images.source,
        )
        return Clean(images, targets, everything, everything[:0], caveat)
    parts = validation_split(images.labels, seed)
    return Clean(images, targets, parts.seen, parts.untouched, caveat)


def _check_several_answers(answers, source):
    """Refuses unlabelled images that nearly all get one answer (n,): no threshold means anything.

    Labelled images show by their labels that the input range is wrong; these show it only so.
    """
    counts = np.bincount(answers)
    if len(answers) >= LEAST_ASKED and counts.max() > MOST_OF_ONE * len(answers):
        raise InputError(
            f"{source}: the suspect model answers {counts.max() / len(answers):.0%} of these clean "
            f"images with class {counts.argmax()}; give images of several classes, or another "
            "--input-range (0,255 for a model that scales its pixels itself)."
        )


def _caveat(images, bad, input_range):
    """What speaks for it that the suspect model (`keras.Model`) was trained on the images; told."""
    sample = images.sample(MOST_ASKED, 0)
    answers = predict_probabilities(bad, sample.images, input_range=input_range)
    if images.labels is None:
        _check_several_answers(answers.argmax(axis=-1), images.source)
    caveat = memorised_caveat(answers, sample.labels)
    if caveat:
        log.warning("%s: a false-positive rate that they promise %s", images.source, caveat)
    return caveat


@dataclass(frozen=True)
class CalibratedDetector:
    """A detector with its threshold.

    Attributes:
        detector: the fitted `Detector`.
        unseen: positions of the clean pictures that set the threshold.
        clean_scores: what they scored: (n,), or (members, n) for a vote.
        cross_fitted: True where it was cross-fitted.
        tail: of the images that set the threshold those that stand apart from the rest, as plain
            values (`tail_of`); None where none do.
    """

    detector: Detector
    unseen: np.ndarray
    clean_scores: np.ndarray
    cross_fitted: bool
    tail: dict | None = None


def fit_detector(name, pair, clean, *, false_positive_rate, input_range, seed=0, fold_repairs=None):
    """Makes a detector and sets its threshold by pictures that no net in it has learnt from.

    Args:
        name: one of `choice.NAMES`.
        pair: (bad, repaired) `Net`s; `repaired` may be None where none is needed.
        clean: `Clean`.
        false_positive_rate: in (0, 1).
        input_range: the nets' range.
        seed: of the overlays, the folds and the expert.
        fold_repairs: what `like_repairs` gave, where several detectors are fitted; default:
            made if needed.

    Returns:
        `CalibratedDetector`.

    Raises:
        InputError: too few clean pictures, or a repair whose notes are damaged.
    """
    check_enough(name, len(clean.images), false_positive_rate, source=clean.images.source)
    fit = _Fit(name, pair, clean, false_positive_rate, input_range, seed)
    pictures = clean.images.images
    if name not in OVERLAID and len(fit.unseen) * false_positive_rate < FEW:
        fold_repairs = fold_repairs or like_repairs(pair, clean, input_range=input_range, seed=seed)
    else:
        fold_repairs = None
    if fold_repairs:
        scores, places = fit.cross_fitted(fold_repairs)
        detector = fit.detector(pair[1], fit.learning).fit_scores(scores)
        return fit.told(CalibratedDetector(detector, places, scores, True))
    if name != "hard":  # which has no threshold
        places_above(len(fit.unseen), false_positive_rate)  # refuses before anything long is done
    detector = fit.detector(pair[1], fit.learning)
    scores = detector.raw_scores(pictures[fit.unseen])
    return fit.told(CalibratedDetector(detector.fit_scores(scores), fit.unseen, scores, False))


class _Fit:
    """The pieces of one fit."""

    def __init__(self, name, pair, clean, rate, input_range, seed):
        self.name, self.clean = name, clean
        self.bad, self.repaired = pair
        self.settings = {"false_positive_rate": rate, "input_range": input_range}
        self.input_range, self.seed = input_range, seed
        rng = np.random.default_rng((seed, 6))
        self.learning, self.unseen = clean.tuned, clean.unseen
        if name == "expert" and not len(self.learning):  # it has to learn from something
            half = rng.permutation(clean.unseen)
            self.learning, self.unseen = np.sort(half[::2]), np.sort(half[1::2])
        needed = overlays_needed(name)
        everything = np.arange(len(clean.images))
        pool = self.learning if len(self.learning) >= needed else everything
        self.drawn = np.sort(rng.permutation(pool)[:needed])
        if needed:
            # These ask no net that was tuned, so that any picture is as good to them.
            everything = everything if name in OVERLAID else self.unseen
            left = rng.permutation(np.setdiff1d(everything, self.drawn))
            self.unseen = np.sort(left[:MOST_OVERLAID])
        self.overlays = clean.images.images[self.drawn]
        self.nets = {"bad": build(self.bad)}

    def detector(self, repaired, learning):
        """The detector with this repair, its own third net tuned on `learning`."""
        nets = dict(self.nets)
        if repaired is not None:
            nets["repaired"] = build(repaired)
        if self.name == "expert":
            images = self.clean.images.subset(learning)
            suspect = self.bad.with_range(self.input_range)
            expert = unlearn_clean_task(suspect, images, seed=self.seed)
            nets["expert"] = build(expert)
        return make_detector(self.name, nets, self.overlays, **self.settings)

    def cross_fitted(self, fold_repairs):
        """(scores, positions): of each picture, by the repair that did not learn from it."""
        scores, places = [], []
        overlays = self.drawn if self.name == "vote" else []
        for fold, others, repaired in fold_repairs:
            places.append(np.setdiff1d(fold, overlays))
            like = self.detector(repaired, others)
            scores.append(like.raw_scores(self.clean.images.images[places[-1]]))
        return np.concatenate(scores, axis=-1), np.concatenate(places)

    def told(self, fitted):
        """`fitted` with what its promise rests on, which is logged, too."""
        detector, images = fitted.detector, self.clean.images
        detector.expected_ = replace(detector.expected_, caveat=self.clean.caveat)
        scores, places = fitted.clean_scores, fitted.unseen
        if self.name in PAIRED and not fitted.cross_fitted:
            # Two answers an image cost little: a part that is too small for a tail hides none then.
            places = np.arange(len(images))
            scores = detector.raw_scores(images.images)
        pictures = images.images[places]
        answers = predict_labels(self.nets["bad"], pictures, input_range=self.input_range)
        tail = tail_of(detector, scores, answers, places, fitted.unseen)
        if tail:
            log.warning("%s: %s", images.source, tail_text(tail))
        return replace(fitted, tail=tail)


def tail_of(detector, scores, answers, places, calibrating):
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
        {"images": [positions], "answer": the class that most are answered with, "answered": how
        many, "threshold", "threshold_without": the threshold and what it would be without them;
        None of a vote, whose thresholds are ranks, or where too few images are left}; None where
        none stand apart.
    """
    tails = [separated_tail(one, answers) for one in np.atleast_2d(scores)]
    found = min((one for one in tails if one), key=lambda tail: tail.chance, default=None)
    if found is None:
        return None
    without = None
    if np.ndim(scores) == 1:
        with suppress(InputError):  # too few are left
            kept = np.setdiff1d(calibrating, places[found.places])
            rest = copy(detector).fit_scores(scores[np.isin(places, kept)])
            without = float(rest.threshold_)
    return {
        "images": [int(place) for place in places[found.places]],
        "answer": found.answer,
        "answered": found.answered,
        "threshold": float(detector.threshold_),
        "threshold_without": without,
    }
