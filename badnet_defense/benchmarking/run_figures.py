"""One run of the grid: what a repair and a detector cost on clean images, and what they catch."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

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
from badnet_defense.nets.net import Net
from badnet_defense.repairs.pseudo_labels import labels_of
from badnet_defense.workflows.calibrate import (
    MIN_ABOVE_THRESHOLD,
    CalibratedDetector,
    CalibrationSplit,
)
from badnet_defense.workflows.cross_fitting import make_fold_repairs

CLEAN = "clean_test"
MAX_CLEAN, MAX_POISONED = 2000, 500
"""At most this many images of a set are measured: SentiNet makes 160 predictions per image."""
ROC_POINTS = 120


@dataclass
class EvaluationContext:
    """Models, images and the models' predictions, shared by the detectors of one repair.

    Attributes:
        suspect: the suspect model.
        repaired: the repaired model; None without a repair.
        sets: {"clean_test": `Dataset`, trigger: ..}, which are measured.
        clean: the clean validation images, and which of them the repair saw.
        report: the repair's own result.
        answers: {"bad": {set: (n,) classes}, "repaired": ..}.
    """

    suspect: Net
    repaired: Net | None
    sets: dict[str, Dataset]
    clean: CalibrationSplit
    report: dict[str, Any]
    answers: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    _fold_repairs: Any = None

    @classmethod
    def of(
        cls,
        suspect: Net,
        repaired: Net | None,
        sets: Mapping[str, Dataset],
        clean: CalibrationSplit,
        report: dict[str, Any],
    ) -> EvaluationContext:
        """Samples the images that are measured, and predicts them with both models."""
        measured = {
            part: sample(part, data) for part, data in sets.items() if part != "clean_validation"
        }
        nets = {"bad": suspect} | ({} if repaired is None else {"repaired": repaired})
        answers = {
            name: {part: net.predict(data.images) for part, data in measured.items()}
            for name, net in nets.items()
        }
        return cls(suspect, repaired, measured, clean, report, answers)

    def fold_repairs(self, rate: float, seed: int) -> Any:
        """What `make_fold_repairs` gives, made once; None where enough images are unseen."""
        if self.repaired is None or len(self.clean.unseen) * rate >= MIN_ABOVE_THRESHOLD:
            return None
        if self._fold_repairs is None:
            self._fold_repairs = make_fold_repairs(
                self.suspect, self.repaired, self.clean, seed=seed
            )
        return self._fold_repairs


def sample(part: str, data: Dataset) -> Dataset:
    """The images of a set that are measured, the same ones in every run."""
    return data.sample(MAX_CLEAN if part == CLEAN else MAX_POISONED, 0)


def run_figures(
    name: str, fitted: CalibratedDetector, context: EvaluationContext
) -> dict[str, Any]:
    """A fitted detector's figures beside those of both models, as plain numbers.

    Args:
        name: of the detector.
        fitted: the detector with its threshold.
        context: models, images and predictions.

    Returns:
        {"clean": {..}, "triggers": {name: {..}}, "expected": {..}, "examples": [..]}; rates are
        fractions, with `<rate>_interval` beside them.
    """
    detector, classes = fitted.detector, context.suspect.classes
    start = time.perf_counter()
    scores = {part: detector.anomaly_score(data.images) for part, data in context.sets.items()}
    seconds = time.perf_counter() - start
    guard = {
        part: detector.apply_threshold(context.answers["bad"][part], scores[part])
        for part in scores
    }
    answers = {**context.answers, "guard": guard}

    def of(part: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
        given = {stage: predicted[part] for stage, predicted in answers.items()}
        return given, labels_of(context.sets[part])

    clean = clean_figures(*of(CLEAN), classes)
    with_curve = has_threshold(name)
    triggers = {
        part: trigger_figures(
            *of(part), clean, classes, (scores[CLEAN], scores[part]), with_curve=with_curve
        )
        for part in scores
        if part != CLEAN
    }
    return {
        "clean": clean,
        "triggers": triggers,
        "expected": asdict(detector.expected_),
        "threshold": float(detector.threshold_),
        "cross_fitted": fitted.cross_fitted,
        "tail": fitted.tail,
        "pictures_per_second": sum(map(len, scores.values())) / seconds,
        "examples": examples(context.sets, answers),
    }


def clean_figures(
    answers: Mapping[str, np.ndarray], labels: np.ndarray, classes: int
) -> dict[str, Any]:
    """Accuracy of each stage and the guard's false-positive rate, with intervals."""
    figures: dict[str, Any] = {"pictures": len(labels)}
    for stage, predicted in answers.items():
        _add(figures, f"{stage}_accuracy", predicted == labels)
    _add(figures, "false_positive_rate", answers["guard"] == classes)
    return figures


def trigger_figures(
    answers: Mapping[str, np.ndarray],
    targets: np.ndarray,
    clean: Mapping[str, Any],
    classes: int,
    scores: tuple[np.ndarray, np.ndarray],
    *,
    with_curve: bool,
) -> dict[str, Any]:
    """What one trigger does at each stage; `scores` are those of clean and of its images.

    Attack success goes by each image's own target, of which an all-to-all attack has many: then
    "target" is None and "targets" is their number.
    """
    different = np.unique(targets)
    figures: dict[str, Any] = {
        "pictures": len(targets),
        "target": int(different[0]) if len(different) == 1 else None,
        "targets": len(different),
    }
    for stage, predicted in answers.items():
        _add(figures, f"{stage}_success", predicted == targets)
        if stage != "bad":
            figures |= _rating(stage, clean, figures)
    _add(figures, "flagged", answers["guard"] == classes)
    figures["auroc"] = auroc(*scores)
    figures["detection"] = {f"{rate:g}": detection_at(*scores, rate) for rate in (0.01, 0.05)}
    if with_curve:
        rates, detected = roc_curve(*scores)
        places = np.unique(np.searchsorted(rates, np.geomspace(1e-4, 1, ROC_POINTS), "right") - 1)
        figures["roc"] = {
            "false_positive_rate": rates[places].tolist(),
            "flagged": detected[places].tolist(),
        }
    return figures


def _rating(stage: str, clean: Mapping[str, Any], figures: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's DER; its interval has the worse ends of accuracy and attack success, the better."""

    def rated(accuracy: float, success: float) -> float:
        bad = {"bad_accuracy": clean["bad_accuracy"], "bad_success": figures["bad_success"]}
        return float(defense_effectiveness(**bad, accuracy=accuracy, success=success))

    accuracy, success = f"{stage}_accuracy", f"{stage}_success"
    ends = zip(clean[f"{accuracy}_interval"], figures[f"{success}_interval"][::-1], strict=True)
    return {
        f"{stage}_der": rated(clean[accuracy], figures[success]),
        f"{stage}_der_interval": [rated(*pair) for pair in ends],
    }


def _add(found: dict[str, Any], name: str, right: np.ndarray) -> None:
    found[name] = float(np.mean(right))
    found[f"{name}_interval"] = list(wilson_interval(int(np.sum(right)), len(right)))


def examples(
    sets: Mapping[str, Dataset], answers: Mapping[str, Mapping[str, np.ndarray]]
) -> list[dict[str, Any]]:
    """A clean image, one per trigger and a false positive, with every stage's prediction."""
    wanted = {"clean": (CLEAN, 0)}
    wanted |= {name: (name, 0) for name in sets if name != CLEAN}
    positives = np.flatnonzero(answers["guard"][CLEAN] != answers["bad"][CLEAN])
    if len(positives):
        wanted["false positive"] = (CLEAN, int(positives[0]))
    found = []
    for title, (part, place) in wanted.items():
        given = {stage: int(answers[stage][part][place]) for stage in answers}
        label = {"label": int(labels_of(sets[part])[place])} if part == CLEAN else {}
        png = _png(sets[part].images[place])
        found.append({"title": title, "png": png, "answers": given, **label})
    return found


def _png(image: np.ndarray) -> str:
    """An image (h, w, c), 0-255, as a PNG in base64."""
    pixels = np.rint(image).astype(np.uint8)
    with io.BytesIO() as buffer:
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
        return base64.b64encode(buffer.getvalue()).decode()
