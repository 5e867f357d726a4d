"""One run of the grid: what a repair and a detector cost on clean pictures, and what they catch."""

import base64
import io
import time
from dataclasses import asdict, dataclass, field

import numpy as np
from PIL import Image

from badnet_defense.detectors.registry import has_threshold
from badnet_defense.evaluation.metrics import (
    auroc,
    defense_effectiveness,
    detection_at,
    roc_curve,
    wilson_interval,
)
from badnet_defense.io.dataset import Dataset
from badnet_defense.nets import build, predict_labels
from badnet_defense.nets.input_range import InputRange
from badnet_defense.nets.net import Net
from badnet_defense.workflows.calibrate import MIN_ABOVE_THRESHOLD, CalibrationSplit
from badnet_defense.workflows.cross_fitting import make_fold_repairs

CLEAN = "clean_test"
MOST_CLEAN, MOST_POISONED = 2000, 500
"""Pictures that judge, drawn at random: SentiNet's test asks about each of them 160 times."""
ROC_POINTS = 120


@dataclass
class EvaluationContext:
    """Nets, pictures and the nets' answers, shared by the detectors of one repair.

    Attributes:
        bad_spec, repaired_spec: `Net`s; no repair: None.
        bad: `keras.Model`.
        sets: {"clean_test": `Dataset`, trigger: ..}, which judge.
        clean: `CalibrationSplit` of the validation pictures.
        input_range: the nets' range.
        report: the repair's own result.
        answers: {"bad": {set: (n,) classes}, "repaired": ..}.
    """

    bad_spec: Net
    repaired_spec: Net | None
    bad: object
    sets: dict[str, Dataset]
    clean: CalibrationSplit
    input_range: InputRange
    report: dict
    answers: dict = field(default_factory=dict)
    _likes: list | None = None

    @classmethod
    def of(cls, spec, repaired, bad, sets, clean, input_range, report):
        """Draws the pictures that judge, and asks both nets about them."""
        sets = {part: images for part, images in sets.items() if part != "clean_validation"}
        sets = {part: drawn(part, images) for part, images in sets.items()}
        nets = {"bad": bad} | ({} if repaired is None else {"repaired": build(repaired)})
        answers = {
            name: {
                part: predict_labels(net, images.images, input_range=input_range)
                for part, images in sets.items()
            }
            for name, net in nets.items()
        }
        return cls(spec, repaired, bad, sets, clean, input_range, report, answers)

    def repairs_like_it(self, rate, seed):
        """What `make_fold_repairs` gives, made once; None where enough images are unseen."""
        if self.repaired_spec is None or len(self.clean.unseen) * rate >= MIN_ABOVE_THRESHOLD:
            return None
        if self._likes is None:
            suspect = self.bad_spec.with_range(self.input_range)
            self._likes = make_fold_repairs(suspect, self.repaired_spec, self.clean, seed=seed)
        return self._likes


def drawn(part, images):
    """At most so many pictures of a set, the same ones for every run."""
    return images.sample(MOST_CLEAN if part == CLEAN else MOST_POISONED, 0)


def judge_run(detector, fitted, judged):
    """A fitted detector's figures beside those of both nets, as plain numbers.

    Args:
        detector: its name.
        fitted: `CalibratedDetector`.
        judged: `EvaluationContext`.

    Returns:
        {"clean": {..}, "triggers": {name: {..}}, "expected": {..}, "examples": [..]}; shares are
        fractions, with `<share>_interval` beside them.
    """
    found, classes = fitted.detector, judged.bad_spec.classes
    start = time.perf_counter()
    scores = {part: found.anomaly_score(images.images) for part, images in judged.sets.items()}
    seconds = time.perf_counter() - start
    guard = {
        part: found.apply_threshold(judged.answers["bad"][part], scores[part]) for part in scores
    }
    answers = {**judged.answers, "guard": guard}

    def of(part):
        return {stage: given[part] for stage, given in answers.items()}, judged.sets[part].labels

    clean = clean_figures(*of(CLEAN), classes)
    triggers = {
        name: trigger_figures(
            *of(name),
            clean,
            classes,
            (scores[CLEAN], scores[name]),
            with_curve=has_threshold(detector),
        )
        for name in scores
        if name != CLEAN
    }
    return {
        "clean": clean,
        "triggers": triggers,
        "expected": asdict(found.expected_),
        "threshold": float(found.threshold_),
        "cross_fitted": fitted.cross_fitted,
        "tail": fitted.tail,
        "pictures_per_second": sum(map(len, scores.values())) / seconds,
        "examples": examples(judged.sets, answers),
    }


def clean_figures(answers, labels, classes):
    """Accuracies of each stage and the guard's false alarms, with intervals."""
    found = {"pictures": len(labels)}
    for stage, given in answers.items():
        _add(found, f"{stage}_accuracy", given == labels)
    _add(found, "false_alarms", answers["guard"] == classes)
    return found


def trigger_figures(answers, targets, clean, classes, scores, *, with_curve):
    """What one trigger does at each stage; `scores` are those of clean and of its pictures.

    Attack success goes by each image's own target, of which an all-to-all attack has many: then
    "target" is None and "targets" tells how many.
    """
    different = np.unique(targets)
    found = {
        "pictures": len(targets),
        "target": int(different[0]) if len(different) == 1 else None,
        "targets": len(different),
    }
    for stage, given in answers.items():
        _add(found, f"{stage}_success", given == targets)
        if stage != "bad":
            found |= _rating(stage, clean, found)
    _add(found, "flagged", answers["guard"] == classes)
    found["auroc"] = auroc(*scores)
    found["detection"] = {f"{rate:g}": detection_at(*scores, rate) for rate in (0.01, 0.05)}
    if with_curve:
        rates, shares = roc_curve(*scores)
        kept = np.unique(np.searchsorted(rates, np.geomspace(1e-4, 1, ROC_POINTS), "right") - 1)
        found["roc"] = {"false_alarms": rates[kept].tolist(), "flagged": shares[kept].tolist()}
    return found


def _rating(stage, clean, found):
    """A stage's DER; its interval has the worse ends of accuracy and attack success, the better."""

    def rated(accuracy, success):
        bad = {"bad_accuracy": clean["bad_accuracy"], "bad_success": found["bad_success"]}
        return defense_effectiveness(**bad, accuracy=accuracy, success=success)

    accuracy, success = f"{stage}_accuracy", f"{stage}_success"
    ends = zip(clean[f"{accuracy}_interval"], found[f"{success}_interval"][::-1], strict=True)
    return {
        f"{stage}_der": rated(clean[accuracy], found[success]),
        f"{stage}_der_interval": [rated(*pair) for pair in ends],
    }


def _add(found, name, right):
    found[name] = float(np.mean(right))
    found[f"{name}_interval"] = list(wilson_interval(int(np.sum(right)), len(right)))


def examples(sets, answers):
    """A clean picture, one of each trigger and a false alarm, with every stage's answer."""
    wanted = {"clean": (CLEAN, 0)}
    wanted |= {name: (name, 0) for name in sets if name != CLEAN}
    alarms = np.flatnonzero(answers["guard"][CLEAN] != answers["bad"][CLEAN])
    if len(alarms):
        wanted["false alarm"] = (CLEAN, int(alarms[0]))
    found = []
    for title, (part, place) in wanted.items():
        with io.BytesIO() as buffer:
            pixels = np.rint(sets[part].images[place]).astype(np.uint8)
            shown = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
            Image.fromarray(shown).save(buffer, "PNG")
            png = base64.b64encode(buffer.getvalue()).decode()
        given = {stage: int(answers[stage][part][place]) for stage in answers}
        label = {"label": int(sets[part].labels[place])} if part == CLEAN else {}
        found.append({"title": title, "png": png, "answers": given, **label})
    return found
