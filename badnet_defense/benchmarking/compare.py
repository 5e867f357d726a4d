"""The grid of models, repairs, detectors and seeds: one JSON per run, resumed where it stopped.

The runs of one model, repair and seed share models, images and predictions; they are one task
(`run_group`), which any worker can run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from badnet_defense.benchmarking.cases import BenchmarkCase
from badnet_defense.benchmarking.run_figures import EvaluationContext, run_figures
from badnet_defense.detectors.registry import DETECTORS, check_enough, needs_repair
from badnet_defense.errors import ExecutorError, InputError, LostTaskError, one_line
from badnet_defense.evaluation.input_checks import settled_sets
from badnet_defense.guards.pairing import read_pair
from badnet_defense.io import read_images
from badnet_defense.io.current import DEPENDS_ON, dependencies, is_current
from badnet_defense.io.dataset import Dataset
from badnet_defense.io.files import data_sha256, exclusive, file_sha256
from badnet_defense.io.records import own_bytes, own_result, provenance, write_json
from badnet_defense.nets.input_range import UNIT, InputRange
from badnet_defense.nets.net import Net
from badnet_defense.nets.outputs import read_classifier
from badnet_defense.parallel import SerialExecutor, executor_for
from badnet_defense.parallel.remote_files import RemoteFile, results_below, write_files
from badnet_defense.repairs.registry import REPAIRS, uses_triggers
from badnet_defense.workflows.calibrate import fit_detector, split_clean
from badnet_defense.workflows.cross_fitting import unseen_share
from badnet_defense.workflows.repair import repair_file
from badnet_defense.workflows.scan import scan_file
from badnet_defense.workflows.scanned import found_triggers, scan_of

log = logging.getLogger(__name__)
RUN, REPAIR = "run", "repair"
NO_REPAIR = "none"


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """What is compared.

    Args:
        repairs: names of `REPAIRS`.
        detectors: names of `DETECTORS`; those that need no repair run once per seed.
        seeds: of repairs and detectors.
        false_positive_rate: target of each detector, in (0, 1).
        input_range: the models' range.
    """

    repairs: tuple[str, ...]
    detectors: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    false_positive_rate: float = 0.01
    input_range: InputRange = UNIT

    def groups(self) -> list[tuple[str, int, list[str]]]:
        """[(repair, seed, [detectors])] of each model, in the order in which they run.

        Examples:
            >>> CompareConfig(repairs=("anp",), detectors=("soft", "strip")).groups()
            [('none', 0, ['strip']), ('anp', 0, ['soft'])]
        """
        detectors = list(dict.fromkeys(self.detectors))
        unpaired = [name for name in detectors if not needs_repair(name)]
        paired = [name for name in detectors if needs_repair(name)]
        groups = []
        for seed in dict.fromkeys(self.seeds):
            groups += [(NO_REPAIR, seed, unpaired)] if unpaired else []
            repairs = dict.fromkeys(self.repairs) if paired else ()
            groups += [(repair, seed, paired) for repair in repairs]
        return groups


def compare(
    cases: Sequence[BenchmarkCase],
    *,
    out: str | Path,
    scans: str | Path,
    config: CompareConfig,
    executor: Any = None,
) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Runs the grid; a run whose stored result is current is reused.

    Args:
        cases: models with their images.
        out: folder; `<out>/runs/*.json` and the repaired models in `<out>/nets`.
        scans: folder of the models' scans, `<scans>/<model>.*`; one that a repair needs and that is
            missing is made once for all seeds.
        config: what is compared.
        executor: what runs the groups (`badnet_defense.parallel`); default: this process.

    Returns:
        ([result of each run that is done], [(name of a run, what was wrong)]).

    Raises:
        InputError: two models of one name, or another run is at `out`.
    """
    names = [case.name for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"two models are both named {twice[0]}; rename a file.")
    digest = cache(data_sha256)
    groups = [
        _Group(case, *group, Path(out), Path(scans), config, digest)
        for case in cases
        for group in config.groups()
    ]
    total = sum(len(group.detectors) for group in groups)
    with exclusive(out), tqdm(total=total, desc="runs", disable=None) as bar:
        _run(groups, executor or SerialExecutor(), config, Path(out), bar)
    titles = [(group, name) for group in groups for name in group.detectors]
    done = [group.done[name] for group, name in titles if name in group.done]
    failed = [(group.title(n), group.failed[n]) for group, n in titles if n in group.failed]
    return done, failed


def _run(groups: list[_Group], executor: Any, config: CompareConfig, out: Path, bar: Any) -> None:
    """Runs what is missing of the groups, and keeps in them what is done and what failed."""
    unscanned: dict[str, str] = {}
    for group in groups:
        group.load_existing(executor, unscanned)
        bar.update(len(group.done) + len(group.failed))
    while left := [group for group in groups if group.missing]:
        try:
            _run_missing(left, executor_for(len(left), executor), config, out, bar)
        except LostTaskError as error:  # it is reported, and the others continue
            lost = left[error.place]
            bar.update(len(lost.missing))
            lost.keep({}, dict.fromkeys(lost.missing, f"InputError: {error}"))


def _run_missing(
    left: list[_Group], executor: Any, config: CompareConfig, out: Path, bar: Any
) -> None:
    paths = {path for group in left for path in group.paths()}
    files = {path: RemoteFile.of(path, apart=executor.apart) for path in sorted(paths)}
    grid = executor.share(Grid(files, None if executor.apart else str(out), config))
    tasks = [group.task(executor.apart) for group in left]
    for place, (done, failed, written, repaired) in executor.run(run_group, (grid,), tasks):
        write_files(out, written)
        left[place].keep(done, failed, repaired)
        bar.set_postfix_str(one_line(left[place].title("*")))
        bar.update(len(done) + len(failed))


@dataclass(frozen=True)
class StoredRepair:
    """A repaired model that need not be made again.

    Attributes:
        report: the repair's result.
        sha256: of the model's file.
        files: for workers elsewhere, {path below the folder of results: bytes}.
    """

    report: dict[str, Any]
    sha256: str
    files: dict[str, np.ndarray] = field(default_factory=dict)


class _Group:
    """The runs of one model, repair and seed, as they are stored.

    Attributes:
        done: {detector: result} of the runs that are current.
        failed: {detector: what was wrong}.
    """

    def __init__(
        self,
        case: BenchmarkCase,
        repair: str,
        seed: int,
        detectors: list[str],
        out: Path,
        scans: Path,
        config: CompareConfig,
        digest: Callable[[str | Path], str],
    ) -> None:
        self.case, self.repair, self.seed, self.detectors = case, repair, seed, detectors
        self.out, self.scans, self.config, self.digest = out, scans, config, digest
        self.done: dict[str, dict[str, Any]] = {}
        self.failed: dict[str, str] = {}
        self.triggers: Any = None
        self.scan: str | None = None

    @property
    def missing(self) -> list[str]:
        """The detectors that are still to be run."""
        return [n for n in self.detectors if n not in self.done and n not in self.failed]

    def title(self, detector: str) -> str:
        """The name of a run."""
        return f"{self.case.name}.{self.repair}.{detector}.{self.seed}"

    def paths(self) -> list[str]:
        """The files that the runs read, as texts."""
        return [str(path) for path in (self.case.model, *self.case.data().values())]

    def load_existing(self, executor: Any, unscanned: dict[str, str]) -> None:
        """Loads the runs that are current; makes the scan that the others need.

        Args:
            executor: what runs a scan's tasks.
            unscanned: {model: what was wrong} of the scans that failed in this call.
        """
        self.scan = self._existing_scan()
        for name in self.detectors:
            found = own_result(self._path(name), RUN)
            wanted = self._wanted(name)
            if self.scan is None:  # a run by a scan that is there no more is still current
                wanted["inputs"]["scan"] = found.get(DEPENDS_ON, wanted)["inputs"].get("scan")
            if is_current(found, wanted):
                self.done[name] = found
        if self.missing and uses_triggers(self.repair):
            wrong = unscanned.get(self.case.name) or self._scanned(executor)
            if wrong:
                unscanned[self.case.name] = wrong
                self.keep({}, dict.fromkeys(self.missing, wrong))

    def task(self, apart: bool) -> tuple[Any, ...]:
        """The arguments of `run_group`."""
        data = {part: str(path) for part, path in self.case.data().items()}
        what = (self.repair, self.seed, self.missing, self._stored_repair(apart), self.triggers)
        hashes = {"net": self.digest(self.case.model)}
        hashes |= {part: self.digest(path) for part, path in self.case.data().items()}
        return str(self.case.model), data, hashes, *what

    @property
    def _repaired(self) -> str:
        """The repaired model, below the folder of results."""
        return f"nets/{self.repair}.{self.seed}/{self.case.name}.h5"

    @property
    def _repair_record(self) -> Path:
        return (self.out / self._repaired).with_suffix(".origin.json")

    def _stored_repair(self, apart: bool) -> StoredRepair | None:
        """The repaired model, if this user's run has made it and it is current."""
        record = own_result(self._repair_record, REPAIR)
        if not is_current(record, self._repair_wanted()):
            return None
        report, sha256 = record["report"], record["sha256"]
        if not apart:
            return StoredRepair(report, sha256)
        try:
            content = np.frombuffer(own_bytes(self.out / self._repaired, sha256), np.uint8)
        except InputError:  # missing or damaged: made anew
            return None
        return StoredRepair(report, sha256, {self._repaired: content})

    def keep(
        self,
        done: dict[str, dict[str, Any]],
        failed: dict[str, str],
        repaired: StoredRepair | None = None,
    ) -> None:
        """Writes and keeps the results of runs, and keeps and reports what failed.

        Args:
            done: {detector: result}.
            failed: {detector: what was wrong}.
            repaired: the repaired model, if it was made now.
        """
        if repaired is not None:
            record = {"schema": 1, "report": repaired.report, "sha256": repaired.sha256}
            record[DEPENDS_ON] = self._repair_wanted()
            write_json(self._repair_record, record, sealed=REPAIR)
        for name, result in done.items():
            about = provenance(
                net_path=self.case.model,
                data_paths=self.case.data(),
                classes=result.pop("classes"),
                seed=self.seed,
                seconds=result.pop("seconds"),
                digest=self.digest,
            )
            self.done[name] = {
                **about,
                "name": self.case.name,
                "repair": self.repair,
                "detector": name,
                "false_positive_rate": self.config.false_positive_rate,
                **result,
                DEPENDS_ON: self._wanted(name),
            }
            write_json(self._path(name), self.done[name], sealed=RUN)
        for name, message in failed.items():
            log.warning("%s failed: %s", self.title(name), message)
        self.failed |= failed

    def _path(self, detector: str) -> Path:
        return self.out / "runs" / f"{self.title(detector)}.json"

    def _wanted(self, detector: str) -> dict[str, Any]:
        """What a run depends on."""
        data = {part: self.digest(path) for part, path in self.case.data().items()}
        method = DETECTORS[detector]
        return dependencies(
            inputs={**self._inputs(), **data},
            settings={
                **self._settings(),
                "detector": [detector, asdict(method.config())],
                "false_positive_rate": self.config.false_positive_rate,
            },
            parts=("answers", "repair", "calibration", "evaluation"),
            methods=[*self._methods(), ("detector", method)],
        )

    def _repair_wanted(self) -> dict[str, Any]:
        """What the repaired model depends on."""
        return dependencies(
            inputs=self._inputs(),
            settings=self._settings(),
            parts=("answers", "repair", "evaluation"),
            methods=self._methods(),
        )

    def _inputs(self) -> dict[str, Any]:
        return {
            "net": self.digest(self.case.model),
            "clean_validation": self.digest(self.case.validation),
            "scan": self.scan,
        }

    def _settings(self) -> dict[str, Any]:
        configs = [[self.repair, asdict(method.config())] for _, method in self._methods()]
        input_range = str(self.config.input_range)
        return {"repair": configs, "seed": self.seed, "input_range": input_range}

    def _methods(self) -> list[tuple[str, Any]]:
        return [] if self.repair == NO_REPAIR else [("repair", REPAIRS[self.repair])]

    def _existing_scan(self) -> str | None:
        """SHA-256 of the triggers that a finished scan of the model has found, if there is one."""
        if not uses_triggers(self.repair):
            return None
        stem, files = self.scans / self.case.name, (self.case.model, self.case.validation)
        found = scan_of(stem, *files, input_range=self.config.input_range)
        return None if found is None else file_sha256(f"{stem}.npz")

    def _scanned(self, executor: Any) -> str | None:
        """Takes the triggers of the model's scan, which is made if need be; what was wrong."""
        stem, files = self.scans / self.case.name, (self.case.model, self.case.validation)
        try:
            if self.scan is None:
                input_range = self.config.input_range
                scan_file(*files, out=stem, input_range=input_range, executor=executor)
                self.scan = self._existing_scan()
            self.triggers = found_triggers(stem)
        except ExecutorError:
            raise
        except Exception as error:  # noqa: BLE001 one model's scan must not end the grid
            return f"{type(error).__name__}: {error}"
        return None


# The task, for workers anywhere ------------------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """What all tasks of a grid share.

    Attributes:
        files: {path: `RemoteFile`} of all models and data.
        out: the folder of the grid's results; None where workers don't see it.
        config: what is compared.
    """

    files: dict[str, RemoteFile]
    out: str | None
    config: CompareConfig


def run_group(
    grid: Grid,
    model: str,
    data: dict[str, str],
    hashes: dict[str, str],
    repair: str,
    seed: int,
    detectors: list[str],
    stored: StoredRepair | None,
    triggers: Any,
) -> tuple[dict[str, Any], dict[str, str], dict[str, np.ndarray], StoredRepair | None]:
    """The runs of one model, repair and seed.

    Args:
        grid: what all tasks share.
        model: path of the model, as in `grid.files`.
        data: {part: path} of its data, likewise.
        hashes: SHA-256 of the model ("net") and of each part of the data, which the results record.
        repair: its name, or `NO_REPAIR`.
        seed: of repair and detectors.
        detectors: their names.
        stored: the repaired model that is there already, or None.
        triggers: [(label, mask, pattern)] that a scan found, for a repair that takes them, or None.

    Returns:
        ({detector: result}, {detector: what was wrong}, {path: bytes} that was made elsewhere,
        `StoredRepair` of a repaired model that was made now, or None).
    """
    with results_below(grid.out) as (out, written):
        write_files(out, stored.files if stored else {})
        runs = _GroupRuns(grid, out, model, data, hashes, repair, seed, stored, triggers)
        done, failed = {}, {}
        for name in detectors:
            try:
                done[name] = runs.run(name)
            except Exception as error:  # noqa: BLE001 one failing run must not end the grid
                failed[name] = f"{type(error).__name__}: {error}"
        return done, failed, written(), runs.made


class _GroupRuns:
    """Models, images and predictions of a group, made with its first run.

    A failure fails all its runs.
    """

    def __init__(
        self,
        grid: Grid,
        out: Path,
        model: str,
        data: dict[str, str],
        hashes: dict[str, str],
        repair: str,
        seed: int,
        stored: StoredRepair | None,
        triggers: Any,
    ) -> None:
        self.config, self.files, self.repair, self.seed = grid.config, grid.files, repair, seed
        self.model, self.data, self.hashes = Path(model), data, hashes
        self.stored, self.triggers = stored, triggers
        self.folder = out / "nets" / f"{repair}.{seed}"
        self.made: StoredRepair | None = None
        self._failure: Exception | None = None

    def run(self, detector: str) -> dict[str, Any]:
        """A detector's figures beside those of both models."""
        start = time.perf_counter()
        net, sets = self._once("_read")
        rate, clean = self.config.false_positive_rate, sets["clean_validation"]
        unseen = unseen_share(self.repair)
        check_enough(detector, len(clean), rate, source=clean.source, fraction=unseen)
        context = self._once("_prepare")
        fitting = time.perf_counter()
        fitted = fit_detector(
            detector,
            context.suspect,
            context.repaired,
            context.clean,
            false_positive_rate=rate,
            seed=self.seed,
            fold_repairs=context.fold_repairs(rate, self.seed),
        )
        return {
            "classes": net.classes,
            "seconds": time.perf_counter() - start,
            "repair_seconds": context.report.get("seconds", 0.0),
            "fit_seconds": time.perf_counter() - fitting,
            "pruning": context.report.get("pruning"),
            **run_figures(detector, fitted, context),
        }

    def _once(self, name: str) -> Any:
        """The value of a method, computed once; what fails once fails for all detectors."""
        if self._failure is not None:
            raise self._failure
        kept = f"{name}_value"
        if not hasattr(self, kept):
            try:
                setattr(self, kept, getattr(self, name)())
            except Exception as error:
                self._failure = error
                raise
        return getattr(self, kept)

    def _read(self) -> tuple[Net, dict[str, Dataset]]:
        """Reads and checks the model and all images."""
        self.model = self.files[str(self.model)].here()
        self.data = {part: str(self.files[path].here()) for part, path in self.data.items()}
        net = read_classifier(self.model, self.config.input_range)
        sets = {part: read_images(path, shape=net.input_shape) for part, path in self.data.items()}
        self._check_unchanged(net, sets)
        return net, settled_sets(net, sets)

    def _check_unchanged(self, net: Net, sets: dict[str, Dataset]) -> None:
        """Refuses other files than those whose hashes the results will record."""
        read = {"net": net.attributes["file_sha256"]}
        read |= {part: data.sha256 for part, data in sets.items()}
        for name, sha256 in self.hashes.items():
            if read[name] != sha256:
                path = self.model if name == "net" else self.data[name]
                raise InputError(f"{path}: it was changed while the runs were made; start again.")

    def _prepare(self) -> EvaluationContext:
        """Makes the repair, or loads the stored one, and predicts with both models."""
        net, sets = self._once("_read")
        repaired, report = (None, {}) if self.repair == NO_REPAIR else self._repaired()
        clean = split_clean(net, repaired, sets["clean_validation"])
        return EvaluationContext.of(net, repaired, sets, clean, report)

    def _repaired(self) -> tuple[Net, dict[str, Any]]:
        """(the repaired model, result of the repair), made if it is not there yet."""
        path, range_ = self.folder / f"{self.model.stem}.h5", self.config.input_range
        net, _ = self._once("_read")
        if self.stored is not None:
            with suppress(InputError):  # missing or damaged: made anew
                stored = read_pair(self.model, path, input_range=range_, suspect=net).repaired
                if stored is not None and stored.attributes["file_sha256"] == self.stored.sha256:
                    return stored, self.stored.report
        report = repair_file(
            self.model,
            self.data["clean_validation"],
            out=self.folder,
            method=self.repair,
            triggers=self.triggers,
            input_range=range_,
            seed=self.seed,
        )
        repaired = read_pair(self.model, path, input_range=range_, suspect=net).repaired
        assert repaired is not None  # it was read
        self.made = StoredRepair(report, repaired.attributes["file_sha256"])
        return repaired, report
