"""From a net's file and clean pictures to its flagged labels, their triggers and a repair."""

import json
import logging
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from badnet_defense.errors import CannotJudgeError, InputError
from badnet_defense.evaluation.class_counts import check_several_classes, tell_coverage
from badnet_defense.evaluation.evaluate import evaluate_defense
from badnet_defense.evaluation.input_checks import check_belonging, check_range
from badnet_defense.io import read_images
from badnet_defense.io.files import (
    all_or_none,
    atomic_write,
    check_writable,
    exclusive,
    file_sha256,
)
from badnet_defense.io.records import digests_read, provenance, write_json
from badnet_defense.nets import build
from badnet_defense.nets.graph import layer_to_prune
from badnet_defense.nets.input_range import UNIT
from badnet_defense.nets.outputs import read_classifier
from badnet_defense.repairs.pseudo_labels import pseudo_labelled
from badnet_defense.repairs.registry import MOST_UNLEARNT, SCANNED
from badnet_defense.repairs.trigger_pruning import prune_by_triggers
from badnet_defense.repairs.unlearning import UNLEARN, unlearn
from badnet_defense.repairs.validated_tuning import parts_of
from badnet_defense.report.scan_plots import plot_norms, plot_triggers
from badnet_defense.scan.progress import Progress
from badnet_defense.scan.scan import scan, way, whole_scan
from badnet_defense.scan.suitability import check_count
from badnet_defense.scan.verdict import LEAST_LABELS, NO_NUMBERS, STATISTIC, SUSPICIOUS
from badnet_defense.workflows.pair_files import write_pair
from badnet_defense.workflows.scanned import PICTURE, SCAN, TRIGGERS

log = logging.getLogger(__name__)
SHOWN = 3
"""Labels whose triggers are shown where none is flagged: those that stand out most."""


def scan_file(model, clean, *, out, **settings):
    """Scans the net in `model` and writes `<out>.npz`, `.json`, `.triggers.png` and `.norms.png`.

    A scan that was stopped is taken up where it was; its finished units lie in `<out>.partial`
    until everything is written.

    Args:
        model: path of the suspect net.
        clean: path of clean pictures; without `repair` their labels play no part.
        out: path of what is written, without its endings.
        settings: the next ones, by keyword.
        labels: class numbers that are asked about; default: all.
        budget: "fast" or "full".
        repair: None, "prune" or "unlearn"; writes `<out>.<repair>.h5` and `.guard.keras` too.
        pseudo_labels: the net's own answers are the labels of the repair.
        tell: called with the result before the first file is written.
        input_range, seed, engine: as for `scan`.

    Returns:
        The result as a dict, as it stands in the JSON file.

    Raises:
        InputError: the net or the pictures cannot be used, or a label that the net doesn't have, or
            another run is scanning to `out`.
        CannotJudgeError: the net has one output, or its answers are no numbers, or the pictures are
            too few, too alike, or nearly all of one class. What else is undecided is in the
            result's `verdict` and `reason`.
    """
    with exclusive(out):
        return _scan_file(model, clean, out=out, **settings)


def _scan_file(
    model,
    clean,
    *,
    out,
    labels=None,
    budget="fast",
    repair=None,
    pseudo_labels=False,
    input_range=UNIT,
    seed=0,
    engine=None,
    tell=None,
):
    start = time.perf_counter()
    endings = (".json", ".npz", ".triggers.png", ".norms.png")
    endings += (f".{repair}.h5", f".{repair}.guard.keras") if repair else ()
    check_writable(*(f"{out}{end}" for end in endings), inputs=(model, clean))
    spec = read_classifier(model)
    _check(model, spec, labels, out, repair)
    bad = build(spec)
    images = _pictures(model, spec, bad, clean, repair and not pseudo_labels, input_range)
    pictures = images.sample(SCANNED, seed).images
    about = provenance(
        net_path=model,
        data_paths={"clean": clean},
        classes=spec.classes,
        seed=seed,
        seconds=0,
        digest=digests_read(spec, images),
    )
    asked = {"labels": labels, "budget": budget, "input_range": input_range, "seed": seed}
    found, result, progress = scan_pictures(spec, pictures, about, out, engine=engine, **asked)
    result["seconds"] = round(time.perf_counter() - start, 1)
    write_repair = None
    if repair and result["flagged"]:
        result["repair"], write_repair = _repair(
            repair, spec, bad, images, found, out, pseudo_labels, input_range, seed
        )
    if tell:
        tell(result)
    with all_or_none():
        if write_repair:
            write_repair()
        write_scan(Path(out), found, pictures, result, Path(model).stem)
    progress.forget()
    return result


def scan_pictures(
    spec, pictures, about, out, *, labels, budget, input_range, seed, whole=False, **how
):
    """A scan whose units are kept in `<out>.partial` until it is written.

    Args:
        spec: the net.
        pictures: clean ones, at most `SCANNED`.
        about: its `provenance`.
        out: path of what will be written, without endings.
        labels, budget, input_range, seed: as for `scan_file`.
        whole: one worker does all of it, as one unit; nothing is kept on the way.
        how: `engine` and `alone`, as for `scan`.

    Returns:
        (`Scan`, result for its JSON file, `Progress` to be forgotten once all is written).

    Raises:
        CannotJudgeError: as for `scan_file`.
    """
    check_count(pictures)
    key = {
        "net": about["net"]["sha256"],
        "data": about["data"]["clean"]["sha256"],
        "labels": None if labels is None else [int(label) for label in labels],
        "settings": [seed, str(input_range), way(budget)],
    }
    progress = Progress(None if whole else f"{out}.partial", key)
    asked = {"labels": labels, "budget": budget, "input_range": input_range, "seed": seed}
    try:
        if whole:
            engine = how["engine"]
            ((_, found),) = engine.run(whole_scan, (engine.share(pictures),), [(spec, asked)])
        else:
            found = scan(spec, pictures, progress=progress, **asked, **how)
        if not np.isfinite([found.norms, found.near.norms]).all():
            raise CannotJudgeError(f"cannot be judged: {NO_NUMBERS}.")
    except CannotJudgeError:
        progress.forget()  # it would say the same again
        raise
    result = {
        **about,
        **figures(found),
        "budget": budget,
        "pictures": len(pictures),
        "input_range": str(input_range),
    }
    return found, result, progress


def _check(model, spec, labels, out, repair):
    """Refuses what would only fail after the scan."""
    if labels is not None and max(labels) >= spec.classes:
        raise InputError(
            f"--labels: {max(labels)} came, but {model} has {spec.classes} classes "
            f"(0..{spec.classes - 1})."
        )
    if repair == "prune":
        layer_to_prune(spec)


def _pictures(model, spec, bad, clean, labelled, input_range):
    """The clean pictures, `labelled` where a repair needs it."""
    images = read_images(
        clean,
        shape=spec.input_shape,
        need_labels=bool(labelled),
        labels_matter=bool(labelled),
    )
    net = spec.with_range(input_range)
    if labelled:
        images = check_belonging(net, images)
        tell_coverage(images, spec.classes)
        check_several_classes(images, spec.classes)
        return images
    check_range(net, images)  # perhaps other people's numbers: only a wrong range refuses
    return images


def figures(found):
    """A `Scan` as plain numbers: what its JSON file says beside where it came from."""
    verdict, flagged = found.verdict(), found.flagged()
    shown = [] if flagged else found.smallest(SHOWN)
    return {
        "statistic": STATISTIC,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "suspicious": list(verdict.labels) if verdict.verdict == SUSPICIOUS else [],
        "flagged": [_shown(found, label) for label in flagged],
        "smallest": [_shown(found, label) for label in shown],
        "limit": found.joint.limit if len(found.labels) >= LEAST_LABELS else None,
        "anomaly_indices": found.joint.index.tolist(),
        "weight_indices": None if found.weights is None else found.weights.tolist(),
        "labels": len(found.asked),
        "references": sorted(set(found.labels.tolist()) - set(found.asked.tolist())),
        **_look(found),
        "near": _look(found.near),
    }


def _shown(found, label):
    """The figures of a label whose trigger is shown, at its clearest."""
    look = found.clearest(label)
    (place,) = np.flatnonzero(found.labels == label)
    return {
        **next(_entries(look, [label])),
        "anomaly_index": float(found.joint.index[place]),
        "weight_index": None if found.weights is None else float(found.weights[place]),
        "flagged_by": found.flagged_by(label),
        "attack_success": found.trigger(label)[2],
        "shift": look.shift,
    }


def _look(scan):
    """One look's norms and what they say."""
    return {
        "shift": scan.shift,
        "blur": scan.blur,
        "median": scan.mad.median,
        "mad": scan.mad.mad,
        "mad_flagged": [int(scan.labels[p]) for p in scan.mad.flagged if not scan.stopped[p]],
        "all": list(_entries(scan, scan.labels.tolist())),
    }


def _entries(scan, labels):
    """The figures of some labels in one look."""
    for label in labels:
        (place,) = np.flatnonzero(scan.labels == label)
        yield {
            "label": label,
            "l1": float(scan.norms[place]),
            "anomaly_index": float(scan.outliers.index[place]),
            "mad_anomaly_index": float(scan.mad.index[place]),
            "stopped_early": bool(scan.stopped[place]),
        }


def _repair(how, spec, bad, images, found, out, pseudo_labels, input_range, seed):
    """A repair with the triggers that were found: (figures, what writes the net and its guard)."""
    targets, notes = None, {}
    if pseudo_labels:
        images, targets = pseudo_labelled(bad, images, input_range=input_range)
    check_several_classes(images, spec.classes)
    triggers = [(label, *found.trigger(label)[:2]) for label in found.flagged()[:MOST_UNLEARNT]]
    if how == "prune":
        seen = images.subset(parts_of(images.labels, seed).seen)
        repaired, report = prune_by_triggers(spec, seen, triggers, input_range=input_range)
        about = asdict(report)
    else:
        repaired, report = unlearn(
            spec, images, triggers, targets=targets, input_range=input_range, seed=seed
        )
        about = {**report.as_dict(), "recipe": asdict(UNLEARN)}
        notes["recipe"] = json.dumps(asdict(UNLEARN))
    nets = {"bad": bad, "repaired": build(repaired)}
    measured = {"bad": spec.with_range(input_range), "repaired": repaired.with_range(input_range)}
    stages = evaluate_defense(measured, {"clean_validation": images})
    write = partial(
        write_pair,
        f"{out}.{how}",
        nets,
        suspect=spec,
        input_range=input_range,
        tuned_on=(images, seed, pseudo_labels),
        notes=notes,
    )
    labels = [label for label, *_ in triggers]
    figures = {"method": how, "labels": labels, "pseudo_labels": pseudo_labels}
    return {**figures, **about, **stages}, write


def write_scan(out, found, pictures, result, stem):
    """Writes a scan's four files, all or none, and notes in its result what belongs to it."""
    names = ("labels", "norms", "stopped", "finished", "masks", "patterns", "attack_success")
    here = {name: getattr(found, name) for name in names}
    near = {f"near_{name}": getattr(found.near, name) for name in names[1:]}
    shown = [entry["label"] for entry in (*result["flagged"], *result["smallest"])]
    triggers = {label: found.trigger(label) for label in shown}
    with all_or_none():
        with atomic_write(f"{out}.{TRIGGERS}") as partial:
            np.savez_compressed(partial, **here, **near)
            digest = file_sha256(partial)
        drawn = plot_triggers(f"{out}.{PICTURE}", triggers, pictures[0], result, net=stem)
        plot_norms(f"{out}.norms.png", result, net=stem)
        result["files"] = {TRIGGERS: digest, PICTURE: drawn}
        write_json(f"{out}.json", result, sealed=SCAN)
