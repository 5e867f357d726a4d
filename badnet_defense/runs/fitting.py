"""Fits a detector's threshold on clean pictures that its nets have not learnt from."""

import logging
from dataclasses import dataclass

import numpy as np

from badnet_defense.data.images import LabelledImages
from badnet_defense.guard.calibration import places_above
from badnet_defense.guard.choice import OVERLAID, check_enough, make_detector, overlays_needed
from badnet_defense.guard.detector import Detector
from badnet_defense.guard.pairing import noted_seed
from badnet_defense.nets import build
from badnet_defense.repair.clean_unlearning import unlearn_clean_task
from badnet_defense.repair.held_out_tuning import SPLIT, parts_of
from badnet_defense.repair.pseudo_labels import pseudo_labelled
from badnet_defense.runs.repeating import like_repairs

log = logging.getLogger(__name__)

FEW = 5
"""Where fewer unseen clean pictures than this are expected above the threshold, it is
cross-fitted."""
MOST_OVERLAID = 3000
"""Pictures that set a threshold of STRIP's: each goes through the net a hundred times."""


@dataclass(frozen=True)
class Clean:
    """Clean pictures, and which of them a repair depends on.

    Attributes:
        images: `LabelledImages`; where they had no labels, or the repair did not use them, the bad
            net's answers.
        targets: (n, classes) soft labels, where the repair used the net's answers; else None.
        tuned: positions of the pictures that the repair was tuned on, or that chose its epoch.
        unseen: positions of those that nothing of the repair depends on.
    """

    images: LabelledImages
    targets: np.ndarray | None
    tuned: np.ndarray
    unseen: np.ndarray


def split_clean(images, bad, repaired, *, input_range):
    """Finds out which clean pictures a repair was tuned on, by what its file notes.

    Args:
        images: `LabelledImages`, labelled or not.
        bad: `keras.Model`.
        repaired: `NetSpec`, or None where there is no repair.
        input_range: the nets' range.

    Returns:
        `Clean`.
    """
    notes = {} if repaired is None else repaired.attributes
    targets, own = None, notes.get("tuned_on") == images.fingerprint()
    if images.labels is None or notes.get("tuned_on_pseudo_labels"):
        images, targets = pseudo_labelled(bad, images, input_range=input_range)
    everything = np.arange(len(images))
    if repaired is not None and "tuned_on" not in notes:
        log.warning(
            "%s does not say which pictures it was tuned on; the false-alarm rate holds only if "
            "%s were others",
            notes.get("file", "the repaired net"),
            images.source,
        )
    if not own:
        return Clean(images, targets, everything[:0], everything)
    seed = noted_seed(repaired)
    if notes.get("tuned_on_parts") != SPLIT:
        log.info(
            "%s was made by version 0.1, which chose the epoch by all pictures that it held out: "
            "none of %s is left that it does not depend on",
            notes["file"],
            images.source,
        )
        return Clean(images, targets, everything, everything[:0])
    parts = parts_of(images.labels, seed)
    return Clean(images, targets, parts.seen, parts.untouched)


@dataclass(frozen=True)
class Fitted:
    """A detector with its threshold.

    Attributes:
        detector: the fitted `Detector`.
        unseen: positions of the clean pictures that set the threshold.
        clean_scores: what they scored: (n,), or (members, n) for a vote.
        crossed: True where it was cross-fitted.
    """

    detector: Detector
    unseen: np.ndarray
    clean_scores: np.ndarray
    crossed: bool


def fit_detector(name, pair, clean, *, false_alarm_rate, input_range, seed=0, likes=None):
    """Makes a detector and sets its threshold by pictures that no net in it has learnt from.

    Args:
        name: one of `choice.NAMES`.
        pair: (bad, repaired) `NetSpec`s; `repaired` may be None where none is needed.
        clean: `Clean`.
        false_alarm_rate: in (0, 1).
        input_range: the nets' range.
        seed: of the overlays, the folds and the expert.
        likes: what `like_repairs` gave, where several detectors are fitted; default: made if need
            be.

    Returns:
        `Fitted`.

    Raises:
        InputError: too few clean pictures, or a repair whose notes are damaged.
    """
    check_enough(name, len(clean.images), false_alarm_rate, source=clean.images.source)
    fit = _Fit(name, pair, clean, false_alarm_rate, input_range, seed)
    pictures = clean.images.pictures
    if name not in OVERLAID and len(fit.unseen) * false_alarm_rate < FEW:
        likes = likes or like_repairs(pair, clean, input_range=input_range, seed=seed)
    else:
        likes = None
    if likes:
        scores, places = fit.crossed(likes)
        detector = fit.detector(pair[1], fit.learning).fit_scores(scores)
        return Fitted(detector, places, scores, True)
    if name != "hard":  # which has no threshold
        places_above(len(fit.unseen), false_alarm_rate)  # refuses before anything long is done
    detector = fit.detector(pair[1], fit.learning)
    scores = detector.raw_scores(pictures[fit.unseen])
    return Fitted(detector.fit_scores(scores), fit.unseen, scores, False)


class _Fit:
    """The pieces of one fit."""

    def __init__(self, name, pair, clean, rate, input_range, seed):
        self.name, self.clean = name, clean
        self.bad, self.repaired = pair
        self.settings = {"false_alarm_rate": rate, "input_range": input_range}
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
        self.overlays = clean.images.pictures[self.drawn]
        self.nets = {"bad": build(self.bad)}

    def detector(self, repaired, learning):
        """The detector with this repair, its own third net tuned on `learning`."""
        nets = dict(self.nets)
        if repaired is not None:
            nets["repaired"] = build(repaired)
        if self.name == "expert":
            images = self.clean.images.subset(learning)
            expert = unlearn_clean_task(
                self.bad, images, input_range=self.input_range, seed=self.seed
            )
            nets["expert"] = build(expert)
        return make_detector(self.name, nets, self.overlays, **self.settings)

    def crossed(self, likes):
        """(scores, positions): of each picture, by the repair that did not learn from it."""
        scores, places = [], []
        overlays = self.drawn if self.name == "vote" else []
        for fold, others, repaired in likes:
            places.append(np.setdiff1d(fold, overlays))
            like = self.detector(repaired, others)
            scores.append(like.raw_scores(self.clean.images.pictures[places[-1]]))
        return np.concatenate(scores, axis=-1), np.concatenate(places)
