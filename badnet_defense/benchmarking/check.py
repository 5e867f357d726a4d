"""One model checked from a stranger's file to a verdict: scan, repair, guard and evaluation.

The steps are those of an audit with everything on, and of `evaluate_files`. A part of the clean
images is held out before the repair: it neither tunes the repair nor sets the guard's threshold.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from badnet_defense.benchmarking.audit import AuditConfig, audit, repair_and_guard
from badnet_defense.benchmarking.model_list import AuditItem, plain
from badnet_defense.detectors.registry import check_enough
from badnet_defense.errors import InputError
from badnet_defense.evaluation.input_checks import fitting_labels
from badnet_defense.io import Dataset, read_images, read_trigger_labels, write_challenge_h5
from badnet_defense.io.current import DEPENDS_ON, dependencies, is_current
from badnet_defense.io.files import check_writable, data_sha256, exclusive, file_sha256
from badnet_defense.io.records import own_bytes, own_result, write_json
from badnet_defense.io.splits import split_within_classes
from badnet_defense.nets.net import Net
from badnet_defense.nets.outputs import read_classifier
from badnet_defense.parallel.remote_files import RemoteFile
from badnet_defense.repairs.registry import uses_triggers
from badnet_defense.scan.verdict import BACKDOORED, UNJUDGED
from badnet_defense.workflows.cross_fitting import unseen_share
from badnet_defense.workflows.detect import RATE
from badnet_defense.workflows.evaluate import evaluate_files
from badnet_defense.workflows.scanned import found_triggers

log = logging.getLogger(__name__)

CHECK = "check"
HELD_OUT = 0.25
"""Of the clean images this fraction of each class is held out for the evaluation."""
MIN_HELD_OUT = 50
"""Fewer held-out images tell next to nothing: then none are held out."""
CERTAIN_SUCCESS = 0.5
"""Poisoned images that get the attacker's class more often than this, by the lower end of the 95 %
interval, show a backdoor whatever the scan finds."""


@dataclass(frozen=True)
class CheckInputs:
    """The files of a check: what is read, and where what is made lies.

    Attributes:
        model: path of the suspect model.
        clean: path of the clean images.
        poisoned: path of poisoned images, labelled with the attacker's class, or None.
        trigger_labels: path of True/False per poisoned image, or None.
        out: folder of everything that is written.
    """

    model: Path
    clean: Path
    poisoned: Path | None
    trigger_labels: Path | None
    out: Path

    @property
    def name(self) -> str:
        """By which the results are called."""
        return plain(self.model.name)

    @property
    def scan(self) -> Path:
        """The scan's files, without their endings."""
        return self.out / "scans" / self.name

    @property
    def repaired(self) -> Path:
        """The repaired model's files, without their endings."""
        return self.out / "repaired" / self.name / self.model.stem

    @property
    def plots(self) -> Path:
        """The evaluation's plots, without their endings."""
        return self.out / "plots" / self.model.stem

    def pictures(self, result: Mapping[str, Any]) -> dict[str, bytes | None]:
        """{name: bytes of a PNG} of a result, None for those that were not made or were changed."""
        files = {
            "triggers": f"{self.scan}.triggers.png",
            "norms": f"{self.scan}.norms.png",
            "pruning": f"{self.repaired}.pruning.png",
            "roc": f"{self.plots}.roc.png",
            "scores": f"{self.plots}.scores.png",
        }
        found: dict[str, bytes | None] = {}
        for name, file in files.items():
            sha256 = result["files"].get(Path(file).relative_to(self.out).as_posix())
            found[name] = None
            if sha256 is not None:
                with suppress(InputError):
                    found[name] = own_bytes(file, sha256)
        return found


def check(given: CheckInputs, *, config: AuditConfig, executor: Any = None) -> dict[str, Any]:
    """Checks one model; finished steps whose inputs are unchanged are reused.

    Args:
        given: the files; of poisoned images, the defence is measured on them, and the model is
            repaired even if the scan finds nothing.
        config: budget, repair, detector, input range and seed; `repair` must be named.
        executor: what runs the scan's tasks; default: this process.

    Returns:
        The result, as it stands in `check.json`: `verdict`, `reason`, `scan`, and, where something
        was found, `repair` and `evaluation`, or what `failed`.

    Raises:
        InputError: a file cannot be used, or another run is at `out`.
    """
    start = time.perf_counter()
    inputs = (given.model, given.clean, given.poisoned, given.trigger_labels)
    check_writable(given.out / "check.json", inputs=inputs)
    net = read_classifier(given.model, config.input_range)
    data = _clean_data(net, given)
    _check_poisoned(net, given)
    with exclusive(given.out / CHECK):
        before = own_result(given.out / "check.json", CHECK)
        result = _scanned(net, data, given, config, executor)
        if result["verdict"] == BACKDOORED or (given.poisoned and result["verdict"] != UNJUDGED):
            result |= _defended(net, data, given, config, result, before)
        result = {**result, **_verdict(result)}
        result["seconds"] = round(time.perf_counter() - start, 1)
        result["files"] = _files(given)
        write_json(given.out / "check.json", result, sealed=CHECK)
    return result


def _clean_data(net: Net, given: CheckInputs) -> Dataset:
    """The clean images, with the model's labels, or without where theirs are others."""
    data = read_images(given.clean, shape=net.input_shape, labels_matter=False)
    return fitting_labels(net, data)


def _check_poisoned(net: Net, given: CheckInputs) -> None:
    """Refuses poisoned data that cannot be used before anything long is done."""
    if given.poisoned is None:
        return
    data = read_images(given.poisoned, shape=net.input_shape)
    if given.trigger_labels is not None:
        read_trigger_labels(given.trigger_labels, len(data))


def _scanned(
    net: Net, data: Dataset, given: CheckInputs, config: AuditConfig, executor: Any
) -> dict[str, Any]:
    """The audit's verdict on the one model."""
    clean = given.clean
    if data.labels is None:  # labels of other classes say nothing about this model
        clean = given.out / "data" / "clean.h5"
        _write_part(clean, data)
    item = AuditItem(given.name, given.model, clean, config.input_range)
    (found,) = audit([item], out=given.out, config=replace(config, repair=None), executor=executor)
    verdict = {key: found.pop(key) for key in ("verdict", "reason")}
    keys = ("net", "versions", "classes", "seed")
    about: dict[str, Any] = {key: found.pop(key) for key in keys if key in found}
    return {"schema": 1, **about, **verdict, "scan": {**found, **verdict}}


def _defended(
    net: Net,
    data: Dataset,
    given: CheckInputs,
    config: AuditConfig,
    result: dict[str, Any],
    before: Mapping[str, Any],
) -> dict[str, Any]:
    """Repair, guard and evaluation; those of `before` where they are current and there."""
    parts, about = _parts(data, given, config)
    wanted = dict(result["scan"].get(DEPENDS_ON) or {"inputs": {}, "settings": {}})
    hashes = {name: file_sha256(path) for name, path in parts.items()}
    wanted["inputs"] = {**wanted["inputs"], **hashes}
    key = config.repair_key(wanted)
    repair = before.get("repair") or {}
    there = (Path(f"{given.repaired}.h5"), _guard(given, config))
    if not is_current(repair, key or {}) or not _unchanged(before, given, there):
        try:
            repair = {DEPENDS_ON: key, **_repair(data, given, config, parts)}
        except InputError as error:
            return {"parts": about, "failed": str(error)}
    keyed = _evaluation_key(given, config, repair)
    evaluation = before.get("evaluation") or {}
    if not is_current(evaluation, keyed):
        evaluation = {DEPENDS_ON: keyed, **_evaluation(given, config, parts)}
    return {"parts": about, "repair": repair, "evaluation": evaluation}


def _parts(
    data: Dataset, given: CheckInputs, config: AuditConfig
) -> tuple[dict[str, Path], dict[str, Any]]:
    """({"clean_validation": path, "clean_test": path}, what is told of the split).

    The first repairs and sets the threshold, the second is held out; without enough images there
    is none.
    """
    labels = np.zeros(len(data), int) if data.labels is None else data.labels
    kept, held_out = split_within_classes(labels, HELD_OUT, seed=config.seed)
    enough = len(held_out) >= MIN_HELD_OUT and _is_enough(len(kept), given, config)
    if not enough:
        kept, held_out = np.arange(len(data)), held_out[:0]
    folder = given.out / "data"
    parts = {"clean_validation": folder / "clean_validation.h5"}
    _write_part(parts["clean_validation"], data.subset(kept))
    if enough:
        parts["clean_test"] = folder / "clean_test.h5"
        _write_part(parts["clean_test"], data.subset(held_out))
    return parts, {
        "repair": len(kept),
        "held_out": len(held_out),
        "fraction": HELD_OUT,
        "labelled": data.labels is not None,
    }


def _is_enough(count: int, given: CheckInputs, config: AuditConfig) -> bool:
    """True where so many images still repair the model and set the guard's threshold."""
    try:
        fraction = unseen_share(str(config.repair))
        check_enough(config.guard, count, RATE, source=str(given.clean), fraction=fraction)
    except InputError:
        return False
    return True


def _write_part(path: Path, data: Dataset) -> None:
    """A part of the clean images as a file, written anew only where it is another."""
    if path.is_file():
        with suppress(InputError):
            there = read_images(path, shape=data.images.shape[1:], labels_matter=False)
            if there.fingerprint() == data.fingerprint() and _same(there.labels, data.labels):
                return
    write_challenge_h5(path, data)


def _same(labels: np.ndarray | None, others: np.ndarray | None) -> bool:
    if labels is None or others is None:
        return labels is others
    return bool(np.array_equal(labels, others))


def _guard(given: CheckInputs, config: AuditConfig) -> Path:
    return given.repaired.with_name(f"{given.model.stem}.{config.guard}.keras")


def _repair(
    data: Dataset, given: CheckInputs, config: AuditConfig, parts: dict[str, Path]
) -> dict[str, Any]:
    """The figures of the repair and of the guard, which are written."""
    triggers = found_triggers(given.scan) if uses_triggers(config.repair) else None
    figures, detector, _ = repair_and_guard(
        RemoteFile.of(given.model, apart=False),
        RemoteFile.of(parts["clean_validation"], apart=False),
        file_sha256(given.model),
        str(given.repaired.parent),
        config,
        triggers,
        data.labels is None,
        config.input_range,
    )
    return {**figures, "detector": detector}


def _evaluation_key(
    given: CheckInputs, config: AuditConfig, repair: Mapping[str, Any]
) -> dict[str, Any]:
    """What the evaluation depends on beside the repair."""
    files = {"poisoned": given.poisoned, "trigger_labels": given.trigger_labels}
    return dependencies(
        inputs={name: data_sha256(path) for name, path in files.items() if path is not None},
        settings={"seed": config.seed, "repair": repair[DEPENDS_ON]},
        parts=("answers", "calibration", "evaluation"),
    )


def _evaluation(given: CheckInputs, config: AuditConfig, parts: dict[str, Path]) -> dict[str, Any]:
    """The stages of the defence on held-out clean images and on poisoned ones."""
    sets = {"clean_validation": parts["clean_validation"], "clean_test": parts.get("clean_test")}
    return evaluate_files(
        str(given.model),
        {name: None if path is None else str(path) for name, path in sets.items()}
        | {"poisoned": None if given.poisoned is None else str(given.poisoned)},
        folder=str(given.repaired.parent),
        repaired=f"{given.repaired}.h5",
        trigger_labels=given.trigger_labels,
        detector=config.guard,
        false_positive_rate=RATE,
        plots=str(given.plots) if given.poisoned else None,
        input_range=config.input_range,
        seed=config.seed,
    )


def _verdict(result: dict[str, Any]) -> dict[str, Any]:
    """The scan's verdict, or that of the poisoned images where these leave no doubt."""
    attacked = result.get("evaluation", {}).get("bad", {}).get("poisoned", {})
    low, _ = attacked.get("attack_success_interval", (0.0, 1.0))
    if result["verdict"] != BACKDOORED and low > CERTAIN_SUCCESS:
        return {"verdict": BACKDOORED, "reason": None, "shown_by": "poisoned images"}
    return {"shown_by": "scan" if result["verdict"] == BACKDOORED else None}


def _files(given: CheckInputs) -> dict[str, str]:
    """{path below the folder: SHA-256} of what was made."""
    folders = (given.scan.parent, given.repaired.parent, given.plots.parent, given.out / "data")
    files = [file for folder in folders if folder.is_dir() for file in sorted(folder.iterdir())]
    return {
        file.relative_to(given.out).as_posix(): file_sha256(file)
        for file in files
        if file.is_file()
    }


def _unchanged(before: Mapping[str, Any], given: CheckInputs, files: tuple[Path, ...]) -> bool:
    """True where these files are those that an earlier run of this check has written."""
    known = before.get("files", {})
    return all(
        file.is_file() and known.get(file.relative_to(given.out).as_posix()) == file_sha256(file)
        for file in files
    )
