"""Detectors at work: evaluated on data sets, written as guards, and asked about images."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from badnet_defense.detectors.registry import DETECTORS, check_enough, needs_repair
from badnet_defense.errors import InputError
from badnet_defense.evaluation.input_checks import fitting_labels
from badnet_defense.evaluation.metrics import auroc, detection_at, roc_curve
from badnet_defense.guards.calibrated import build_calibrated_guard
from badnet_defense.guards.pairing import Pair, read_pair
from badnet_defense.io import read_images
from badnet_defense.io.dataset import Dataset
from badnet_defense.io.files import all_or_none, atomic_write, check_writable, exclusive
from badnet_defense.io.records import digests_read, provenance, write_json
from badnet_defense.nets.input_range import UNIT, InputRange
from badnet_defense.nets.net import Net
from badnet_defense.nets.outputs import read_classifier
from badnet_defense.report.detector_plots import plot_roc, plot_scores
from badnet_defense.workflows.calibrate import CalibratedDetector, fit_detector, split_clean

log = logging.getLogger(__name__)

RATE = 0.01
"""The default false-positive rate."""
RATES = (0.01, 0.05)
"""False-positive rates at which the detection rate is always reported."""


def check_detector(name: str, sets: dict[str, Dataset], rate: float) -> None:
    """Refuses too few clean validation images for a detector, before anything long is done.

    Args:
        name: of the detector.
        sets: as for `evaluate_detector`.
        rate: its false-positive rate.

    Raises:
        InputError: no clean validation images, or too few.
    """
    if "clean_validation" not in sets:
        raise InputError(
            f"detector {name!r} sets its threshold with clean validation images, got none; give "
            "some."
        )
    clean = sets["clean_validation"]
    check_enough(name, len(clean), rate, source=clean.source)


def evaluate_detector(
    name: str,
    pair: Pair,
    sets: dict[str, Dataset],
    *,
    triggered: np.ndarray | None = None,
    false_positive_rate: float = RATE,
    seed: int = 0,
) -> tuple[dict[str, np.ndarray], dict[str, Any], Callable[[str], None] | None]:
    """Fits a detector on the clean validation images and asks it about every set.

    Args:
        name: of the detector.
        pair: the suspect model and its repair.
        sets: {"clean_validation": `Dataset`, "clean_test": .., "poisoned": ..}.
        triggered: (n,) True for each of "poisoned" that carries a trigger; None: all do.
        false_positive_rate, seed: as for `fit_detector`.

    Returns:
        ({set: (n,) answers 0..N}, {"detector": its figures}, a function that draws its curves at a
        path without endings, or None).

    Raises:
        InputError: too few clean validation images.
    """
    split = split_clean(pair.suspect, pair.repaired, sets["clean_validation"])
    fitted = fit_detector(
        name,
        pair.suspect,
        pair.repaired,
        split,
        false_positive_rate=false_positive_rate,
        seed=seed,
    )
    detector = fitted.detector
    start = time.perf_counter()
    scores = {part: detector.anomaly_score(data.images) for part, data in sets.items()}
    seconds = time.perf_counter() - start
    answers = {
        part: detector.apply_threshold(pair.suspect.predict(data.images), scores[part])
        for part, data in sets.items()
    }
    about = {
        **_about(name, fitted),
        "pictures_per_second": round(sum(map(len, scores.values())) / seconds, 1),
    }
    clean = _clean_scores(scores, fitted, about)
    poisoned = scores.get("poisoned", np.zeros(0))
    poisoned = poisoned if triggered is None else poisoned[triggered]
    if len(poisoned):
        about["auroc"] = auroc(clean, poisoned)
        about["detection"] = {f"{r:g}": detection_at(clean, poisoned, r) for r in RATES}
    draw = partial(_plot, clean, poisoned, about, pair.suspect.name) if len(poisoned) else None
    return answers, {"detector": about}, draw


def _clean_scores(
    scores: dict[str, np.ndarray], fitted: CalibratedDetector, about: dict[str, Any]
) -> np.ndarray:
    """(n,) scores of the clean images that a detector is measured with; which, is reported.

    Without clean test images they are those that set the threshold: where it was cross-fitted, as
    the nets scored them that had not learnt from them.
    """
    if "clean_test" in scores:
        clean, which = scores["clean_test"], "clean_test"
    else:
        which = "clean_validation"
        own = fitted.cross_fitted and np.ndim(fitted.clean_scores) == 1
        clean = fitted.clean_scores if own else scores[which][fitted.unseen]
        log.warning(
            "no clean test images: the detector's figures are measured on the %d clean "
            "validation images that set its threshold, and the table's clean validation row is of "
            "all of them, among which are those that a repair was tuned on",
            len(clean),
        )
    about["measured_on"] = {"set": which, "images": len(clean)}
    return clean


def _plot(
    clean: np.ndarray, poisoned: np.ndarray, about: dict[str, Any], net: str, plots: str
) -> None:
    chosen = [np.mean(scores > about["threshold"]) for scores in (clean, poisoned)]
    curves = {"poisoned": (roc_curve(clean, poisoned), chosen)}
    plot_roc(f"{plots}.roc.png", curves, about, net=net)
    plot_scores(f"{plots}.scores.png", clean, {"poisoned": poisoned}, about, net=net)


def _about(name: str, fitted: CalibratedDetector) -> dict[str, Any]:
    """A fitted detector in numbers."""
    detector = fitted.detector
    return {
        "name": name,
        "score": DETECTORS[name].facts.get("score", "anomaly score"),
        "false_positive_rate": detector.config.false_positive_rate,
        "threshold": float(detector.threshold_),
        "expected": asdict(detector.expected_),
        "cross_fitted": fitted.cross_fitted,
        "tail": fitted.tail,
    }


def guard_file(
    model: str | Path,
    clean: str | Path,
    *,
    out: str | Path,
    name: str,
    repaired: str | Path | None = None,
    false_positive_rate: float = RATE,
    tell: Callable[[dict[str, Any]], None] | None = None,
    input_range: InputRange | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Fits a detector and writes it as one Keras model, with its figures beside it as JSON.

    Args:
        model: path of the suspect model.
        clean: path of clean images; labels are not needed.
        out: the `.keras` file to write.
        name: of the detector.
        repaired: path of the repaired model, for a detector that needs one; None: the model's own.
        false_positive_rate, seed: as for `fit_detector`.
        tell: called with the figures before the first file is written.
        input_range: the models' range; None: what the repair's file says, else [0, 1].

    Returns:
        The figures as they stand in `<out>.json`.

    Raises:
        InputError: a file cannot be used or would be overwritten, there are too few clean
            images, or another run is making a guard at `out`.
    """
    if Path(out).suffix != ".keras":
        raise InputError(f"{out}: expected the name of a guard's file that ends in .keras.")
    check_writable(out, f"{out}.json", inputs=(model, clean, repaired))
    with exclusive(out):  # so that guard and figures are of one run
        start = time.perf_counter()
        suspect = read_classifier(model)
        fitted, pair, data = _fitted(
            suspect, model, clean, name, repaired, false_positive_rate, input_range, seed
        )
        result = {
            **provenance(
                net_path=model,
                data_paths={"clean": clean},
                classes=pair.suspect.classes,
                seed=seed,
                seconds=time.perf_counter() - start,
                digest=digests_read(pair.suspect, data),
            ),
            "repair": _files(pair.repaired),
            "detector": _about(name, fitted),
            "input_range": str(pair.suspect.input_range),
        }
        if tell:
            tell(result)
        with all_or_none():
            write_json(f"{out}.json", result)
            with atomic_write(out) as unfinished:
                build_calibrated_guard(fitted.detector).save(unfinished)
        return result


def _files(repaired: Net | None) -> dict[str, str] | None:
    """Which repaired model was used, as the result says it."""
    if repaired is None:
        return None
    notes = repaired.attributes
    return {"file": notes["file"], "sha256": notes["file_sha256"]}


def _fitted(
    suspect: Net,
    model: str | Path,
    clean: str | Path,
    name: str,
    repaired: str | Path | None,
    false_positive_rate: float,
    input_range: InputRange | None,
    seed: int,
) -> tuple[CalibratedDetector, Pair, Dataset]:
    """A detector fitted from files, its nets, and the clean images as they were read."""
    data = enough_images(clean, suspect, name, false_positive_rate)
    if needs_repair(name):
        pair = read_pair(model, repaired, input_range=input_range, suspect=suspect)
    else:
        pair = Pair(suspect.with_range(input_range or UNIT), None, None)
    split = split_clean(pair.suspect, pair.repaired, fitting_labels(pair.suspect, data))
    fitted = fit_detector(
        name,
        pair.suspect,
        pair.repaired,
        split,
        false_positive_rate=false_positive_rate,
        seed=seed,
    )
    return fitted, pair, data


def enough_images(
    clean: str | Path, net: Net, name: str, rate: float, *, fraction: float = 1.0
) -> Dataset:
    """Clean images that are enough for a detector of a net.

    Args:
        clean: their path.
        net: the suspect model.
        name, rate, fraction: as for `detectors.registry.check_enough`.

    Raises:
        InputError: the file cannot be used, or too few images.
    """
    data = read_images(clean, shape=net.input_shape, labels_matter=False)
    check_enough(name, len(data), rate, source=data.source, fraction=fraction)
    return data


def detect_files(
    model: str | Path,
    clean: str | Path,
    inputs: Sequence[str | Path],
    *,
    name: str = "soft",
    repaired: str | Path | None = None,
    out: str | Path | None = None,
    false_positive_rate: float = RATE,
    tell: Callable[[dict[str, Any]], None] | None = None,
    input_range: InputRange | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Asks a detector about images and data sets.

    Args:
        model: path of the suspect model.
        clean: path of clean images, for the overlays and the threshold; no labels are needed.
        inputs: paths of image files and of data sets (`.h5`).
        name: of the detector.
        repaired: path of the repaired model, for a detector that needs one; None: the model's own.
        out: path of a histogram of the scores (`.png`); None: none.
        false_positive_rate, seed: as for `fit_detector`.
        tell: called with the result before the histogram is written.
        input_range: the models' range; None: what the repair's file says, else [0, 1].

    Returns:
        {"detector": its figures, "expected": `ExpectedRate`, "scores": {input: (n,) anomaly
        scores}, "answers": {input: (n,) classes 0..N}}; an image is flagged, N, where its score is
        above the threshold.

    Raises:
        InputError: a file cannot be used, or there are too few clean images.
    """
    check_writable(out, inputs=(model, clean, repaired, *inputs))
    suspect = read_classifier(model)
    sets = {str(path): _asked(path, suspect.input_shape) for path in inputs}
    fitted, pair, _ = _fitted(
        suspect, model, clean, name, repaired, false_positive_rate, input_range, seed
    )
    detector = fitted.detector
    scores = {path: detector.anomaly_score(images) for path, images in sets.items()}
    result = {
        "detector": _about(name, fitted),
        "expected": detector.expected_,
        "scores": scores,
        "answers": {
            path: detector.apply_threshold(pair.suspect.predict(images), scores[path])
            for path, images in sets.items()
        },
    }
    if tell:
        tell(result)
    if out:
        groups = {path: found for path, found in scores.items() if len(found) > 1}
        single = [found for found in scores.values() if len(found) == 1]
        groups |= {"images": np.concatenate(single)} if single else {}
        clean_scores = detector.combined(fitted.clean_scores)
        plot_scores(out, clean_scores, groups, result["detector"], net=Path(model).stem)
    return result


def _asked(path: str | Path, shape: tuple[int, int, int]) -> np.ndarray:
    """(n, h, w, c) images of a data set, or the one of an image file."""
    from badnet_defense.io.image_files import read_image

    if str(path).endswith((".h5", ".hdf5")):
        return read_images(path, shape=shape, labels_matter=False).images
    return read_image(path, shape)[None]
