"""An audit: many models from outside, each loaded and scanned, with a verdict and perhaps a repair.

Tasks run on an executor's workers; a thread for each model hands them out and waits for them.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from badnet_defense.benchmarking.model_list import AuditItem
from badnet_defense.detectors.registry import DETECTORS
from badnet_defense.errors import ExecutorError, InputError, one_line
from badnet_defense.evaluation.input_checks import check_belonging
from badnet_defense.evaluation.metrics import accuracy
from badnet_defense.io import Dataset, read_images
from badnet_defense.io.current import DEPENDS_ON, dependencies, is_current
from badnet_defense.io.files import data_sha256, exclusive, file_sha256
from badnet_defense.io.records import own_result, provenance, write_json
from badnet_defense.nets.input_range import UNIT, InputRange
from badnet_defense.nets.net import Net
from badnet_defense.nets.outputs import read_classifier
from badnet_defense.parallel import ClosedError, SerialExecutor
from badnet_defense.parallel.remote_files import RemoteFile, results_below, write_files
from badnet_defense.repairs.registry import REPAIRS, uses_triggers
from badnet_defense.scan.scan import MAX_IMAGES, ScanConfig, scan_dependencies
from badnet_defense.scan.verdict import BACKDOORED, CLEAN, SUSPICIOUS, UNJUDGED
from badnet_defense.workflows.cross_fitting import unseen_share
from badnet_defense.workflows.detect import RATE, enough_images, guard_file
from badnet_defense.workflows.repair import repair_file
from badnet_defense.workflows.scan import scan_recorded, write_scan
from badnet_defense.workflows.scanned import found_triggers, is_whole

VERDICT = "verdict"
WORKERS_PER_NET = 8
"""This many workers need another large net beside, to have work while a rung comes to its end."""
MAX_CLASSES_WHOLE = 64
"""Classes of a net that one worker scans alone where there are several: two batches at most, so
that sharing it out would mostly compile it on one worker after the other."""
MAX_ACCURACY_IMAGES = 2000
"""At most this many labelled clean images, drawn at random, measure a model's accuracy."""


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """What an audit does with every model.

    Args:
        budget: of the scans, "fast" or "full".
        repair: the method that repairs models with a backdoor, or None.
        guard: the detector of their guards.
        input_range: the models' range, where their line of the list names none.
        seed: of scans and repairs.
    """

    budget: str = "fast"
    repair: str | None = None
    guard: str = "soft"
    input_range: InputRange = UNIT
    seed: int = 0

    def repair_key(self, wanted: dict[str, Any]) -> dict[str, Any] | None:
        """What a repair and its guard depend on; None where no repair is asked for.

        Args:
            wanted: what the model's verdict depends on.
        """
        if self.repair is None:
            return None
        repair, guard = REPAIRS[self.repair], DETECTORS[self.guard]
        scan = wanted if uses_triggers(self.repair) else None
        settings = {
            "repair": asdict(repair.config()),
            "guard": asdict(guard.config()),
            "false_positive_rate": RATE,
            "input_range": wanted["settings"]["input_range"],
            "seed": self.seed,
        }
        return dependencies(
            inputs={**wanted["inputs"], "scan": scan},
            settings=settings,
            parts=("answers", "repair", "calibration", "evaluation"),
            methods=[("repair", repair), ("detector", guard)],
        )


ALL_DEFAULT = AuditConfig()


def audit(
    items: Sequence[AuditItem],
    *,
    out: str | Path,
    config: AuditConfig = ALL_DEFAULT,
    executor: Any = None,
) -> list[dict[str, Any]]:
    """Gives each model a verdict (`scan.verdict`); a current one is reused.

    Models that could not be judged, and repairs that failed, are tried again. A current verdict
    stays in its file where another call, with other settings, comes to none.

    Args:
        items: the models, with clean images.
        out: folder; `<out>/nets/<name>.json` with the verdict, the scan in `<out>/scans/<name>.*`,
            repaired models and guards in `<out>/repaired`.
        config: what is done with every model.
        executor: what runs the tasks; default: this process.

    Returns:
        The result of each model, in order: a dict as it stands in its JSON file.

    Raises:
        InputError: another run is at `out`.
        ExecutorError: the executor failed.
    """
    executor = executor or SerialExecutor()
    images = _CleanImages([item.clean for item in items], executor, config.seed)
    auditor = _Auditor(Path(out), config, executor, images)
    at_once = 1 if executor.workers == 1 else executor.workers + 1
    results = {}
    threads = ThreadPoolExecutor(min(at_once, len(items)))
    with exclusive(out), tqdm(total=len(items), desc="nets", disable=None) as bar:
        futures = {threads.submit(auditor.result, item): item.name for item in items}
        try:
            for done in as_completed(futures):
                results[futures[done]] = done.result()
                bar.update()
        except BaseException:
            executor.stop()  # or the threads would go on to the ends of their nets
            raise
        finally:
            threads.shutdown(wait=True, cancel_futures=True)
    return [results[item.name] for item in items]


class _CleanImages:
    """The clean images of all models: read once, shared once, released with their last model.

    Args:
        paths: of the images, one for each model.
        executor: whose workers get them.
        seed: of what is drawn from them.
    """

    def __init__(self, paths: Sequence[Path], executor: Any, seed: int) -> None:
        self._left = Counter(map(Path, paths))
        self._executor, self._seed, self._lock = executor, seed, threading.Lock()
        self._sets: dict[Any, tuple[np.ndarray, Dataset]] = {}
        self._files: dict[Path, tuple[RemoteFile, Any]] = {}
        self.sha256 = cache(data_sha256)

    def read(self, path: Path, shape: tuple[int, int, int]) -> tuple[np.ndarray, Dataset]:
        """(images that a scan draws from, data to measure the accuracy with)."""
        with self._lock:
            if (path, shape) not in self._sets:
                data = read_images(path, shape=shape, labels_matter=False)
                scanned = data.sample(MAX_IMAGES, self._seed).images
                self._sets[path, shape] = scanned, data.sample(MAX_ACCURACY_IMAGES, self._seed)
            return self._sets[path, shape]

    def remote_file(self, path: Path) -> Any:
        """A handle of the file itself, for workers that may not see this machine's disk."""
        with self._lock:
            if path not in self._files:
                file = RemoteFile.of(path, apart=self._executor.apart)
                self._files[path] = file, self._executor.share(file)
            return self._files[path][1]

    def done(self, path: Path) -> None:
        """A model that used the images is done; after the last one they are released."""
        with self._lock:
            self._left[path] -= 1
            if self._left[path]:
                return
            for key in [key for key in self._sets if key[0] == path]:
                scanned, sample = self._sets.pop(key)
                for value in (scanned, sample.images, sample.labels):
                    self._executor.release(value)
            if path in self._files:
                self._executor.release(self._files.pop(path)[0])


class _Auditor:
    """Audits models one by one, from several threads."""

    def __init__(self, out: Path, config: AuditConfig, executor: Any, images: _CleanImages) -> None:
        self.out, self.config, self.executor, self.images = out, config, executor, images
        self._large = threading.Semaphore(2 + executor.workers // WORKERS_PER_NET)

    def result(self, item: AuditItem) -> dict[str, Any]:
        """A model's result, loaded or made and written."""
        try:
            return self._result(item)
        finally:
            self.images.done(item.clean)

    def _result(self, item: AuditItem) -> dict[str, Any]:
        path = self.out / "nets" / f"{item.name}.json"
        wanted = self._wanted(item)
        result = self._load_existing(path, item, wanted)
        if result is None:
            result = {**self._made(item, wanted), DEPENDS_ON: wanted}
            if result["verdict"] == UNJUDGED and self._keeps(path, item, wanted):
                return result
            write_json(path, result, sealed=VERDICT)
        if result["verdict"] == BACKDOORED and (key := self.config.repair_key(wanted)):
            repair = result.get("repair") or {}
            if not is_current(repair, key) or "failed" in repair:
                result["repair"] = {DEPENDS_ON: key, **self._repair(item, result)}
                write_json(path, result, sealed=VERDICT)
        return result

    def _load_existing(
        self, path: Path, item: AuditItem, wanted: dict[str, Any]
    ) -> dict[str, Any] | None:
        """The stored result if it is a verdict, current, and has its scan; else None."""
        result = own_result(path, VERDICT)
        decided = result.get("verdict") in (CLEAN, SUSPICIOUS, BACKDOORED)
        if not decided or not is_current(result, wanted):
            return None
        return result if is_whole(self._scan(item), wanted["inputs"]["net"]) else None

    def _keeps(self, path: Path, item: AuditItem, wanted: dict[str, Any]) -> bool:
        """True where a verdict on this very model, with other settings, is there and stays."""
        before = own_result(path, VERDICT).get(DEPENDS_ON) or {"inputs": {}}
        same = before["inputs"].get("net") == wanted["inputs"].get("net")
        return same and self._load_existing(path, item, before) is not None

    def _scan(self, item: AuditItem) -> Path:
        return self.out / "scans" / item.name

    def _range(self, item: AuditItem) -> InputRange:
        return item.input_range or self.config.input_range

    def _wanted(self, item: AuditItem) -> dict[str, Any]:
        """What a verdict depends on; of a file that cannot be read, what was wrong."""
        try:
            files = file_sha256(item.model), self.images.sha256(item.clean)
        except InputError as error:
            return {"inputs": {"missing": str(error)}}
        config = ScanConfig(budget=self.config.budget)
        return scan_dependencies(*files, config, self._range(item), self.config.seed)

    def _made(self, item: AuditItem, wanted: dict[str, Any]) -> dict[str, Any]:
        start = time.perf_counter()
        try:
            result = self._scanned(item, wanted["inputs"])
        except (ClosedError, ExecutorError):
            raise
        except Exception as error:  # noqa: BLE001 one net must not end the audit of the others
            result = {"schema": 1, "verdict": UNJUDGED, "reason": self._reason(error)}
        seconds = round(time.perf_counter() - start, 1)
        return {**result, "name": item.name, "seconds": seconds}

    def _reason(self, error: Exception) -> str:
        """What is wrong with a net, in a sentence."""
        self.executor.check_open()  # what breaks while all is stopped says nothing about the net
        if isinstance(error, InputError):
            return str(error).removeprefix(f"{UNJUDGED}: ")
        return one_line(f"{type(error).__name__}: {error}")

    def _scanned(self, item: AuditItem, inputs: dict[str, str]) -> dict[str, Any]:
        """Everything but the repair; raises `InputError` where the model cannot be judged."""
        start, config = time.perf_counter(), self.config
        net = read_classifier(item.model, self._range(item))
        if net.attributes["file_sha256"] != inputs.get("net"):
            raise InputError(f"{item.model}: it was changed meanwhile; audit it again.")
        images, sample = self.images.read(item.clean, net.input_shape)
        if sample.sha256 != inputs.get("clean"):
            raise InputError(f"{item.clean}: it was changed meanwhile; audit the models again.")
        measured = self._accuracy(item, net, sample)
        about = provenance(
            net_path=item.model,
            data_paths={"clean": item.clean},
            classes=net.classes,
            seed=config.seed,
            seconds=0,
            digest={item.model: inputs["net"], item.clean: inputs["clean"]}.get,
        )
        whole = net.classes <= MAX_CLASSES_WHOLE and self.executor.workers > 1
        with nullcontext() if whole else self._large:
            scan, result, progress = scan_recorded(
                net,
                images,
                about,
                self._scan(item),
                config=ScanConfig(budget=config.budget),
                seed=config.seed,
                executor=self.executor,
                exclusive=False,
                whole=whole,
            )
        result["seconds"] = round(time.perf_counter() - start, 1)
        write_scan(self._scan(item), scan, images, result, item.name)
        progress.forget()
        return {**about, **measured, **_verdict(result), "input_shape": list(net.input_shape)}

    def _accuracy(self, item: AuditItem, net: Net, sample: Dataset) -> dict[str, Any]:
        """Whether the clean images have labels, and the model's accuracy on them."""
        if sample.labels is None:
            return {"labelled": False, "accuracy": None}
        shared = tuple(map(self.executor.share, (sample.images, sample.labels)))
        task = (net, item.name, sample.folders)
        ((_, measured),) = self.executor.run(clean_accuracy, shared, [task])
        return {"labelled": True, "accuracy": measured}

    def _repair(self, item: AuditItem, result: dict[str, Any]) -> dict[str, Any]:
        """Figures of the model's repair and of its guard, or what was wrong."""
        folder, config, executor = self.out / "repaired" / item.name, self.config, self.executor
        model = None
        try:
            triggers = found_triggers(self._scan(item)) if uses_triggers(config.repair) else None
            model = RemoteFile.of(item.model, apart=executor.apart)
            shared = executor.share(model), self.images.remote_file(item.clean)
            out = None if executor.apart else str(folder)
            what = triggers, not result["labelled"], self._range(item)
            task = (result["net"]["sha256"], out, config, *what)
            ((_, (figures, detector, files)),) = executor.run(repair_and_guard, shared, [task])
            write_files(folder, files)
        except (ClosedError, ExecutorError):
            raise
        except Exception as error:  # noqa: BLE001 one repair must not end the audit of the others
            return {"failed": self._reason(error)}
        finally:
            executor.release(model)
        return {**figures, "detector": detector}


def _verdict(result: dict[str, Any]) -> dict[str, Any]:
    """What a scan's result says of the model."""
    flagged = result["flagged"]
    return {
        "verdict": result["verdict"],
        "reason": result["reason"],
        "targets": [entry["label"] for entry in flagged],
        "flagged": flagged,
        "smallest": result["smallest"],
        "largest_index": max(result["anomaly_indices"]),
        "limit": result["limit"],
    }


# Tasks, for workers anywhere ---------------------------------------------------------------------


def clean_accuracy(
    images: np.ndarray,
    labels: np.ndarray,
    net: Net,
    name: str,
    folders: tuple[str, ...] | None,
) -> float:
    """A model's accuracy on labelled clean images, in [0, 1].

    Raises:
        InputError: the model hardly knows them, or knows them in another range.
    """
    named = replace(net, attributes={**net.attributes, "file": name})
    data = Dataset(images, labels, source="the clean images", folders=folders)
    settled: Any = check_belonging(named, data).labels
    return float(accuracy(named.predict(images), settled))


def repair_and_guard(
    model: RemoteFile,
    clean: RemoteFile,
    sha256: str,
    out: str | None,
    config: AuditConfig,
    triggers: Any,
    pseudo_labels: bool,
    input_range: InputRange,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, np.ndarray]]:
    """A model's repair and the guard of both, written or handed back.

    Args:
        model, clean: of the model and of its clean images.
        sha256: of the model that was scanned.
        out: folder of the results; None where this worker does not see it.
        config: names repair and detector.
        triggers: [(label, mask, pattern)] that the scan found, or None.
        pseudo_labels: True where the clean images have no labels.
        input_range: the model's range.

    Returns:
        (the repair's figures, the detector's, {path: bytes} that was made elsewhere).

    Raises:
        InputError: the model is another one by now, or cannot be repaired.
    """
    method, detector = str(config.repair), config.guard
    asked: dict[str, Any] = {"input_range": input_range, "seed": config.seed}
    with results_below(out) as (folder, written):
        path, images = model.here(), clean.here()
        net = read_classifier(path, input_range)
        enough_images(images, net, detector, RATE, fraction=unseen_share(method))
        repair = repair_file(
            path,
            images,
            out=folder,
            method=method,
            pseudo_labels=pseudo_labels,
            triggers=triggers,
            **asked,
        )
        if repair["net"]["sha256"] != sha256:
            raise InputError(f"{path}: it was changed since it was scanned; audit it again.")
        guard = guard_file(
            path,
            images,
            out=folder / f"{path.stem}.{detector}.keras",
            name=detector,
            false_positive_rate=RATE,
            repaired=folder / f"{path.stem}.h5",
            **asked,
        )
        figures = {key: repair[key] for key in ("method", "bad", "repaired", "guard", "seconds")}
        return figures, guard["detector"], written()
