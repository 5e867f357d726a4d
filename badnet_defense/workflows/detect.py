"""Detectors at work: measured on data sets, written as guards, and asked about single images."""

import logging
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from badnet_defense.detectors.registry import check_enough, needs_repair
from badnet_defense.errors import InputError
from badnet_defense.evaluation.input_checks import fitting_labels
from badnet_defense.evaluation.metrics import auroc, detection_at, roc_curve
from badnet_defense.guards.calibrated import build_calibrated_guard
from badnet_defense.guards.pairing import read_pair, repaired_range
from badnet_defense.io import read_images
from badnet_defense.io.files import all_or_none, atomic_write, check_writable, exclusive
from badnet_defense.io.records import digests_read, provenance, write_json
from badnet_defense.nets import predict_labels
from badnet_defense.nets.input_range import UNIT
from badnet_defense.nets.outputs import read_classifier
from badnet_defense.report.detector_plots import plot_roc, plot_scores
from badnet_defense.workflows.calibrate import fit_detector, split_clean

log = logging.getLogger(__name__)

RATE = 0.01
"""False-positive rate that is asked for where nobody named one."""
RATES = (0.01, 0.05)
"""False-alarm rates at which detection is always told."""


def check_detector(name, sets, rate):
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
            f"--detector {name}: no clean images to set its threshold with; give "
            "--clean-validation."
        )
    clean = sets["clean_validation"]
    check_enough(name, len(clean), rate, source=clean.source)


def evaluate_detector(
    name,
    pair,
    sets,
    *,
    bad,
    triggered=None,
    false_positive_rate=RATE,
    input_range=UNIT,
    seed=0,
):
    """Fits a detector on the clean validation pictures and asks it about every set.

    Args:
        name: of the detector (`choice.NAMES`).
        pair: `Pair`.
        sets: {"clean_validation": `Dataset`, "clean_test": .., "poisoned": ..}.
        bad: the bad net (`keras.Model`).
        triggered: (n,) True for each of "poisoned" that carries a trigger; None: all do.
        false_positive_rate, input_range, seed: as for `evaluate_files`.

    Returns:
        ({set: (n,) answers 0..N}, {"detector": its figures}, a function that draws its curves at a
        path without endings, or None).

    Raises:
        InputError: too few clean validation pictures.
    """
    clean = split_clean(sets["clean_validation"], bad, pair.repaired, input_range=input_range)
    settings = {
        "false_positive_rate": false_positive_rate,
        "input_range": input_range,
        "seed": seed,
    }
    fitted = fit_detector(name, (pair.bad, pair.repaired), clean, **settings)
    detector = fitted.detector
    start = time.perf_counter()
    scores = {part: detector.anomaly_score(images.images) for part, images in sets.items()}
    seconds = time.perf_counter() - start
    answers = {
        part: detector.judged(
            predict_labels(bad, images.images, input_range=input_range), scores[part]
        )
        for part, images in sets.items()
    }
    about = {
        **_about(name, fitted),
        "pictures_per_second": round(sum(map(len, scores.values())) / seconds, 1),
    }
    honest = _honest(scores, fitted, about)
    poisoned = scores.get("poisoned", np.zeros(0))
    poisoned = poisoned if triggered is None else poisoned[triggered]
    if len(poisoned):
        about["auroc"] = auroc(honest, poisoned)
        about["detection"] = {f"{r:g}": detection_at(honest, poisoned, r) for r in RATES}
    draw = partial(_plot, honest, poisoned, about, pair.bad.name) if len(poisoned) else None
    return answers, {"detector": about}, draw


def _honest(scores, fitted, about):
    """(n,) scores of the clean images that a detector is measured by; which, is noted and told.

    Without clean test images they are those that set the threshold: where it was cross-fitted, as
    the nets scored them that had not learnt from them.
    """
    if "clean_test" in scores:
        honest, which = scores["clean_test"], "clean_test"
    else:
        which = "clean_validation"
        own = fitted.cross_fitted and np.ndim(fitted.clean_scores) == 1
        honest = fitted.clean_scores if own else scores[which][fitted.unseen]
        log.warning(
            "no clean test images: what is told of the detector is measured on the %d clean "
            "validation images that set its threshold, and the table's clean validation row is of "
            "all of them, among which are those that a repair was tuned on",
            len(honest),
        )
    about["measured_on"] = {"set": which, "images": len(honest)}
    return honest


def _plot(honest, poisoned, about, net, plots):
    chosen = [np.mean(scores > about["threshold"]) for scores in (honest, poisoned)]
    curves = {"poisoned": (roc_curve(honest, poisoned), chosen)}
    plot_roc(f"{plots}.roc.png", curves, about, net=net)
    plot_scores(f"{plots}.scores.png", honest, {"poisoned": poisoned}, about, net=net)


def _about(name, fitted):
    """A fitted detector in numbers."""
    detector = fitted.detector
    return {
        "name": name,
        "false_positive_rate": detector.false_positive_rate,
        "threshold": float(detector.threshold_),
        "expected": asdict(detector.expected_),
        "cross_fitted": fitted.cross_fitted,
        "tail": fitted.tail,
    }


def guard_file(model, clean, *, out, **settings):
    """Fits a detector and writes it as one Keras model, with its figures beside it as JSON.

    Args:
        model: path of the bad net.
        clean: path of clean pictures; labels are not needed.
        out: the `.keras` file to write.
        settings: the next ones, by keyword.
        name: of the detector.
        tell: called with the figures before the first file is written.
        repaired: path of the repaired net; default: the model's own. STRIP and SentiNet need none.
        false_positive_rate, input_range, seed: as for `evaluate_files`.

    Returns:
        The figures as they stand in `<out>.json`.

    Raises:
        InputError: a file cannot be used or would be overwritten, there are too few clean
            pictures, or another run is making a guard at `out`.
    """
    if Path(out).suffix != ".keras":
        raise InputError(f"--out {out}: expected a file name that ends in .keras.")
    inputs = (model, clean, settings.get("repaired"))
    check_writable(out, f"{out}.json", inputs=inputs)
    with exclusive(out):  # so that guard and figures are of one run
        return _guard_file(model, clean, out=out, **settings)


def _guard_file(
    model,
    clean,
    *,
    out,
    name,
    repaired=None,
    false_positive_rate=RATE,
    tell=None,
    input_range=None,
    seed=0,
):
    start = time.perf_counter()
    spec = read_classifier(model)
    images = enough_images(clean, spec, name, false_positive_rate)
    pair, repair = (spec, None), None
    if needs_repair(name):
        found = read_pair(model, repaired)
        input_range = repaired_range(found.repaired, input_range)
        pair = (found.bad, found.repaired)
        notes = found.repaired.attributes
        repair = {"file": notes["file"], "sha256": notes["file_sha256"]}
    input_range = input_range or UNIT
    fitted = _fitted(model, pair, images, name, false_positive_rate, input_range, seed)
    result = {
        **provenance(
            net_path=model,
            data_paths={"clean": clean},
            classes=fitted.detector.classes,
            seed=seed,
            seconds=time.perf_counter() - start,
            digest=digests_read(spec, images),
        ),
        "repair": repair,
        "detector": _about(name, fitted),
        "input_range": str(input_range),
    }
    if tell:
        tell(result)
    with all_or_none():
        write_json(f"{out}.json", result)
        with atomic_write(out) as unfinished:
            build_calibrated_guard(fitted.detector).save(unfinished)
    return result


def enough_images(clean, spec, name, rate, *, share=1.0):
    """Clean images (`Dataset`) that are enough for a detector of a net.

    Args:
        clean: their path.
        spec: the net (`Net`).
        name, rate, share: as for `choice.check_enough`.

    Raises:
        InputError: the file cannot be used, or too few.
    """
    images = read_images(clean, shape=spec.input_shape, labels_matter=False)
    check_enough(name, len(images), rate, source=images.source, share=share)
    return images


def _fitted(model, pair, images, name, rate, input_range, seed):
    net = pair[0].with_range(input_range)
    images = fitting_labels(net, images)
    split = split_clean(images, net.model, pair[1], input_range=input_range)
    return fit_detector(
        name, pair, split, false_positive_rate=rate, input_range=input_range, seed=seed
    )


def detect_files(
    model,
    clean,
    inputs,
    *,
    name="soft",
    repaired=None,
    out=None,
    false_positive_rate=RATE,
    tell=None,
    input_range=None,
    seed=0,
):
    """Asks a detector about images and data sets.

    Args:
        model: path of the suspect model.
        clean: path of clean images, for the threshold and for overlays; no labels are needed.
        inputs: paths of image files and of data sets (`.h5`).
        name: of the detector.
        repaired: path of the repaired model, where the detector needs one.
        out: path of a histogram of the scores (`.png`); None: none.
        false_positive_rate, tell, input_range, seed: as for `evaluate_files`.

    Returns:
        {"detector": its figures, among them `threshold`, "scores": {input: (n,) anomaly scores}}.

    Raises:
        InputError: a file cannot be used, or there are too few clean images.
    """
    check_writable(out, inputs=(model, clean, *inputs))
    spec = read_classifier(model)
    images = enough_images(clean, spec, name, false_positive_rate)
    sets = {path: _asked(path, spec.input_shape) for path in inputs}
    pair = (spec, None)
    if needs_repair(name):
        found = read_pair(model, repaired)
        input_range = repaired_range(found.repaired, input_range)
        pair = (found.bad, found.repaired)
    fitted = _fitted(model, pair, images, name, false_positive_rate, input_range or UNIT, seed)
    detector = fitted.detector
    scores = {path: detector.anomaly_score(pictures) for path, pictures in sets.items()}
    result = {"detector": _about(name, fitted), "scores": scores}
    if tell:
        tell(result)
    if out:
        _draw_scores(out, fitted, result, images, net=Path(model).stem)
    return result


def _draw_scores(out, fitted, result, images, *, net):
    """Draws the scores of `detect_files`, those of single images as one group."""
    clean = fitted.clean_scores
    if clean.ndim > 1:  # of each member of a vote
        clean = fitted.detector.anomaly_score(images.images[fitted.unseen])
    scores = result["scores"]
    groups = {str(path): values for path, values in scores.items() if len(values) > 1}
    single = [values for values in scores.values() if len(values) == 1]
    groups |= {"images": np.concatenate(single)} if single else {}
    plot_scores(out, clean, groups, result["detector"], net=net)


def _asked(path, shape):
    """(n, h, w, c) pictures of a data set, or the one of an image file."""
    from badnet_defense.io.image_files import read_image

    if str(path).endswith((".h5", ".hdf5")):
        return read_images(path, shape=shape, labels_matter=False).images
    return read_image(path, shape)[None]
