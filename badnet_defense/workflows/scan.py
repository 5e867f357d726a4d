"""Scans a model file with clean images: flagged labels, their triggers, and a repair if asked."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from badnet_defense.errors import CannotJudgeError, InputError
from badnet_defense.evaluation.class_counts import check_several_classes, tell_coverage
from badnet_defense.evaluation.evaluate import evaluate_defense
from badnet_defense.evaluation.input_checks import check_belonging, check_range
from badnet_defense.io import Dataset, read_images
from badnet_defense.io.current import DEPENDS_ON
from badnet_defense.io.files import (
    all_or_none,
    atomic_write,
    check_writable,
    exclusive,
    file_sha256,
)
from badnet_defense.io.records import digests_read, provenance, write_json
from badnet_defense.nets.graph import layer_to_prune
from badnet_defense.nets.input_range import InputRange
from badnet_defense.nets.net import Net
from badnet_defense.nets.outputs import read_classifier
from badnet_defense.repairs.pseudo_labels import pseudo_labelled
from badnet_defense.repairs.registry import REPAIRS, uses_triggers
from badnet_defense.repairs.scanned_triggers import MAX_TRIGGERS
from badnet_defense.report.scan_plots import plot_norms, plot_triggers
from badnet_defense.scan.progress import Progress
from badnet_defense.scan.result import PassResult, ScanResult
from badnet_defense.scan.scan import (
    ALL_LABELS,
    MAX_IMAGES,
    ScanConfig,
    scan_dependencies,
    scan_images,
    scan_whole,
    task_dependencies,
)
from badnet_defense.scan.suitability import check_count
from badnet_defense.scan.verdict import MIN_LABELS, NO_NUMBERS, SUSPICIOUS
from badnet_defense.workflows.pair_files import record_of, write_pair
from badnet_defense.workflows.scanned import PICTURE, SCAN, TRIGGERS

log = logging.getLogger(__name__)
SHOWN = 3
"""Labels whose triggers are shown where none is flagged: those that stand out most."""


def scan_file(
    model: str | Path,
    clean: str | Path,
    *,
    out: str | Path,
    config: ScanConfig = ALL_LABELS,
    repair: str | None = None,
    pseudo_labels: bool = False,
    input_range: InputRange | None = None,
    seed: int = 0,
    executor: Any = None,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Scans a model and writes `<out>.npz`, `.json`, `.triggers.png` and `.norms.png`.

    An interrupted scan is resumed by the same call; its finished tasks lie in `<out>.partial` until
    everything is written.

    Args:
        model: path of the suspect model.
        clean: path of clean images; without `repair` their labels play no part.
        out: path of what is written, without its endings.
        config: labels and budget.
        repair: None, or the name of a registered repair that uses triggers, such as
            "scan-unlearning"; writes `<out>.<repair>.h5` and `.guard.keras`, too.
        pseudo_labels: use the model's predicted probabilities as labels of the repair.
        input_range: the model's range; default: the one recorded in its file, else [0, 1].
        seed: random seed.
        executor: what runs the tasks; default: this process.
        report: called with the result before the first file is written.

    Returns:
        The result as a dict, as it stands in the JSON file.

    Raises:
        InputError: the model or the images cannot be used, or a label that the model doesn't have,
            or another run is scanning to `out`.
        CannotJudgeError: the model has one output, or its answers are not finite, or the images are
            too few, too alike, or nearly all of one class. What else is undecided is in the
            result's `verdict` and `reason`.
    """
    with exclusive(out):
        start = time.perf_counter()
        endings = [".json", ".npz", ".triggers.png", ".norms.png"]
        endings += [f".{repair}.h5", f".{repair}.guard.keras"] if repair else []
        check_writable(*(f"{out}{end}" for end in endings), inputs=(model, clean))
        net = read_classifier(model, input_range)
        _check(model, net, config, repair)
        data = _clean_images(net, clean, bool(repair) and not pseudo_labels)
        images = data.sample(MAX_IMAGES, seed).images
        about = provenance(
            net_path=model,
            data_paths={"clean": clean},
            classes=net.classes,
            seed=seed,
            seconds=0,
            digest=digests_read(net, data),
        )
        scan, result, progress = scan_recorded(
            net, images, about, out, config=config, seed=seed, executor=executor
        )
        result["seconds"] = round(time.perf_counter() - start, 1)
        write_repair = None
        if repair and result["flagged"]:
            result["repair"], write_repair = _repair(
                repair, net, data, scan, out, pseudo_labels, seed
            )
        if report:
            report(result)
        with all_or_none():
            if write_repair:
                write_repair()
            write_scan(Path(out), scan, images, result, Path(model).stem)
        progress.forget()
        return result


def scan_recorded(
    net: Net,
    images: np.ndarray,
    about: dict[str, Any],
    out: str | Path,
    *,
    config: ScanConfig,
    seed: int,
    executor: Any = None,
    exclusive: bool = True,
    whole: bool = False,
) -> tuple[ScanResult, dict[str, Any], Progress]:
    """A scan whose tasks are kept in `<out>.partial` until it is written.

    Args:
        net: the net.
        images: clean ones, at most `MAX_IMAGES`.
        about: its `provenance`.
        out: path of what will be written, without endings.
        config, seed, executor, exclusive: as for `scan_images`.
        whole: one worker of the executor does all of it, as one task; nothing is kept on the way.

    Returns:
        (`ScanResult`, result for its JSON file, `Progress` to be forgotten once all is written).

    Raises:
        CannotJudgeError: as for `scan_file`.
    """
    check_count(images)
    files = about["net"]["sha256"], about["data"]["clean"]["sha256"]
    depends_on = task_dependencies(*files, config, net.input_range, seed)
    progress = Progress(None if whole else f"{out}.partial", depends_on)
    try:
        if whole:
            shared = (executor.share(images),)
            ((_, scan),) = executor.run(scan_whole, shared, [(net, config, seed)])
        else:
            scan = scan_images(
                net,
                images,
                config=config,
                seed=seed,
                progress=progress,
                executor=executor,
                exclusive=exclusive,
            )
        if not np.isfinite([scan_pass.norms for scan_pass in scan.passes]).all():
            raise CannotJudgeError(f"cannot be judged: {NO_NUMBERS}.")
    except CannotJudgeError:
        progress.forget()  # it would say the same again
        raise
    result = {
        **about,
        **figures(scan),
        "budget": config.budget,
        "pictures": len(images),
        "input_range": str(net.input_range),
        DEPENDS_ON: scan_dependencies(*files, config, net.input_range, seed),
    }
    return scan, result, progress


def _check(model: str | Path, net: Net, config: ScanConfig, repair: str | None) -> None:
    """Refuses what would only fail after the scan."""
    if config.labels is not None and max(config.labels) >= net.classes:
        raise InputError(
            f"label {max(config.labels)} is not one of {model}, which has {net.classes} classes "
            f"(0..{net.classes - 1})."
        )
    if repair is not None and not uses_triggers(repair):
        raise InputError(f"{repair}: this repair does not use a scan's triggers.")
    if repair is not None and hasattr(REPAIRS[repair].config(), "layer"):
        layer_to_prune(net)


def _clean_images(net: Net, clean: str | Path, labelled: bool) -> Dataset:
    """The clean images, `labelled` where a repair needs it."""
    data = read_images(clean, shape=net.input_shape, need_labels=labelled, labels_matter=labelled)
    if labelled:
        data = check_belonging(net, data)
        tell_coverage(data, net.classes)
        check_several_classes(data, net.classes)
        return data
    check_range(net, data)  # perhaps of other classes: only a wrong range is refused
    return data


def figures(scan: ScanResult) -> dict[str, Any]:
    """A scan as plain numbers: what its JSON file says beside where it came from."""
    verdict, flagged = scan.verdict(), scan.flagged()
    shown = [] if flagged else scan.top_labels(SHOWN)
    return {
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "suspicious": list(verdict.labels) if verdict.verdict == SUSPICIOUS else [],
        "flagged": [_shown(scan, label) for label in flagged],
        "smallest": [_shown(scan, label) for label in shown],
        "limit": scan.joint.limit if len(scan.labels) >= MIN_LABELS else None,
        "anomaly_indices": scan.joint.index.tolist(),
        "weight_indices": {name: index.tolist() for name, index in scan.weights.items()},
        "labels": len(scan.asked),
        "references": sorted(set(scan.labels.tolist()) - set(scan.asked.tolist())),
        "passes": [_pass_figures(scan, scan_pass) for scan_pass in scan.passes],
    }


def _shown(scan: ScanResult, label: int) -> dict[str, Any]:
    """The figures of a label whose trigger is shown, from the pass where it stands out most."""
    scan_pass, place = scan.clearest(label), scan.place(label)
    weights = [float(index[place]) for index in scan.weights.values()]
    return {
        **next(_entries(scan, scan_pass, [label])),
        "anomaly_index": float(scan.joint.index[place]),
        "weight_index": max(weights, default=None),
        "flagged_by": scan.flagged_by(label),
        "attack_success": scan.trigger(label).attack_success,
        "pass": scan_pass.name,
        "shift": scan_pass.shift,
    }


def _pass_figures(scan: ScanResult, scan_pass: PassResult) -> dict[str, Any]:
    """One pass's norms and what they say."""
    flagged = [place for place in scan_pass.mad.flagged if not scan.stopped[place]]
    return {
        "name": scan_pass.name,
        "shift": scan_pass.shift,
        "blur": scan_pass.blur,
        "median": scan_pass.mad.median,
        "mad": scan_pass.mad.mad,
        "mad_flagged": [int(scan.labels[place]) for place in flagged],
        "all": list(_entries(scan, scan_pass, scan.labels.tolist())),
    }


def _entries(
    scan: ScanResult, scan_pass: PassResult, labels: list[int]
) -> Iterator[dict[str, Any]]:
    """The figures of some labels in one pass."""
    for label in labels:
        place = scan.place(label)
        yield {
            "label": label,
            "l1": float(scan_pass.norms[place]),
            "anomaly_index": float(scan_pass.outliers.index[place]),
            "mad_anomaly_index": float(scan_pass.mad.index[place]),
            "stopped_early": bool(scan.stopped[place]),
        }


def _repair(
    method: str,
    net: Net,
    data: Dataset,
    scan: ScanResult,
    out: str | Path,
    pseudo_labels: bool,
    seed: int,
) -> tuple[dict[str, Any], Callable[[], None]]:
    """A repair with the triggers that were found: (figures, what writes the net and its guard)."""
    targets, repair = None, REPAIRS[method]
    run: Any = repair.run  # these take triggers, too
    if pseudo_labels:
        data, targets = pseudo_labelled(net, data)
    check_several_classes(data, net.classes)
    triggers = [(label, *scan.trigger(label)[:2]) for label in scan.flagged()[:MAX_TRIGGERS]]
    config = repair.config()
    repaired, report = run(net, data, config=config, targets=targets, seed=seed, triggers=triggers)
    about = report.get("trigger_pruning", {})
    if hasattr(config, "tuning"):
        about = {**report["tuning"], "recipe": asdict(config.tuning)}
    nets = {"bad": net, "repaired": repaired}
    stages = evaluate_defense(nets, {"clean_validation": data})
    record = record_of(net, data, method, config, seed=seed, pseudo_labels=pseudo_labels)
    synthetic = bool(data.synthetic or net.attributes.get("synthetic"))
    write = partial(write_pair, f"{out}.{method}", nets, record, synthetic=synthetic)
    summary = {
        "method": method,
        "labels": report["labels"],
        "pseudo_labels": pseudo_labels,
        "repair_record": asdict(record),
    }
    return {**summary, **about, **stages}, write


def write_scan(
    out: str | Path, scan: ScanResult, images: np.ndarray, result: dict[str, Any], stem: str
) -> None:
    """Writes a scan's four files, all or none, and records in its result what belongs to it."""
    arrays = {name: getattr(scan, name) for name in ("labels", "stopped", "finished")}
    for scan_pass in scan.passes:
        for name in ("norms", "masks", "patterns", "attack_success"):
            arrays[f"{scan_pass.name}_{name}"] = getattr(scan_pass, name)
    shown = [entry["label"] for entry in (*result["flagged"], *result["smallest"])]
    triggers = {label: scan.trigger(label) for label in shown}
    with all_or_none():
        with atomic_write(f"{out}.{TRIGGERS}") as partial_file:
            np.savez_compressed(partial_file, **arrays)
            digest = file_sha256(partial_file)
        drawn = plot_triggers(f"{out}.{PICTURE}", triggers, images[0], result, net=stem)
        plot_norms(f"{out}.norms.png", result, net=stem)
        result["files"] = {TRIGGERS: digest, PICTURE: drawn}
        write_json(f"{out}.json", result, sealed=SCAN)
