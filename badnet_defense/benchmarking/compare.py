"""The grid of nets, repairs, detectors and seeds: one JSON a run, taken up where it stopped."""

import logging
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from badnet_defense.benchmarking.compare_task import NO_REPAIR, Grid, Standing, run_group
from badnet_defense.detectors.registry import needs_repair
from badnet_defense.errors import EngineError, InputError, LostUnitError, one_line
from badnet_defense.io.files import data_sha256, exclusive, file_sha256
from badnet_defense.io.records import (
    code_sha256,
    own_bytes,
    own_result,
    provenance,
    versions,
    write_json,
)
from badnet_defense.parallel import Serial, engine_for
from badnet_defense.parallel.remote_files import RemoteFile, write_files
from badnet_defense.repairs.registry import REPAIRS, uses_triggers
from badnet_defense.workflows.scan import scan_file
from badnet_defense.workflows.scanned import found_triggers, scan_of

log = logging.getLogger(__name__)
RUN, REPAIR = "run", "repair"


def runs_of(cases, repairs, detectors, seeds):
    """[(case, repair, seed, [detectors])] in the order in which they are run."""
    repairs, detectors, seeds = (list(dict.fromkeys(one)) for one in (repairs, detectors, seeds))
    alone = [name for name in detectors if not needs_repair(name)]
    paired = [name for name in detectors if needs_repair(name)]
    grid = []
    for case in cases:
        for seed in seeds:
            grid += [(case, NO_REPAIR, seed, alone)] if alone else []
            grid += [(case, repair, seed, paired) for repair in repairs] if paired else []
    return grid


def compare(
    cases, *, repairs, detectors, seeds, out, scans, false_positive_rate, input_range, engine=None
):
    """Runs the grid; a run whose JSON stands and whose inputs are unchanged is not done again.

    Args:
        cases: `Case`s.
        repairs: names of `REPAIRS`.
        detectors: names of `choice.NAMES`; those that need no repair run once for each seed.
        seeds: of repairs and detectors.
        out: folder; `<out>/runs/*.json` and the repaired nets in `<out>/nets`.
        scans: folder of the nets' scans, `<scans>/<net>.*`; what scan-unlearning needs and is not
            there is made once for all seeds.
        false_positive_rate: asked of each detector, in (0, 1).
        input_range: the nets' range.
        engine: what does the runs (`badnet_defense.parallel`), those of one net, repair and seed
            together; default: this process.

    Returns:
        ([result of each run that stands], [(name of a run, what was wrong)]).

    Raises:
        InputError: two nets of one name, or another run is at `out`.
    """
    names = [case.name for case in cases]
    if len(set(names)) < len(names):
        raise InputError(f"nets of one name came ({', '.join(names)}); rename a file.")
    settings = {"false_positive_rate": false_positive_rate, "input_range": input_range}
    digest = cache(data_sha256)
    groups = [
        _Group(*group, out=Path(out), scans=Path(scans), settings=settings, digest=digest)
        for group in runs_of(cases, repairs, detectors, seeds)
    ]
    total = sum(len(group.detectors) for group in groups)
    with exclusive(out), tqdm(total=total, desc="runs", disable=None) as bar:
        _run(groups, engine or Serial(), settings, Path(out), bar)
    titles = [(group, name) for group in groups for name in group.detectors]
    done = [group.done[name] for group, name in titles if name in group.done]
    failed = [(group.title(n), group.failed[n]) for group, n in titles if n in group.failed]
    return done, failed


def _run(groups, engine, settings, out, bar):
    """Does what is missing of the groups, and notes in them what stands and what failed."""
    unscanned = {}
    for group in groups:
        group.take_up(engine, unscanned)
        bar.update(len(group.done) + len(group.failed))
    while left := [group for group in groups if group.missing]:
        try:
            _run_missing(left, engine_for(len(left), engine), settings, out, bar)
        except LostUnitError as error:  # it is told of, and the others go on
            lost = left[error.place]
            bar.update(len(lost.missing))
            lost.note({}, dict.fromkeys(lost.missing, f"InputError: {error}"))


def _run_missing(left, engine, settings, out, bar):
    paths = {path for group in left for path in group.paths()}
    parcels = {path: RemoteFile.of(path, apart=engine.apart) for path in sorted(paths)}
    grid = engine.share(Grid(parcels, None if engine.apart else str(out), **settings))
    units = [group.unit(engine.apart) for group in left]
    for place, (done, failed, files, repaired) in engine.run(run_group, (grid,), units):
        write_files(out, files)
        left[place].note(done, failed, repaired)
        bar.set_postfix_str(one_line(left[place].title("*")))
        bar.update(len(done) + len(failed))


class _Group:
    """The runs of one net, repair and seed, as they are kept.

    Attributes:
        done: {detector: result} of the runs that stand.
        failed: {detector: what was wrong}.
    """

    def __init__(self, case, repair, seed, detectors, *, out, scans, settings, digest):
        self.case, self.repair, self.seed, self.detectors = case, repair, seed, detectors
        self.out, self.scans, self.settings, self.digest = out, scans, settings, digest
        self.done, self.failed, self.triggers, self.scan = {}, {}, None, None

    @property
    def missing(self):
        """The detectors that are still to be run."""
        return [n for n in self.detectors if n not in self.done and n not in self.failed]

    def title(self, detector):
        return f"{self.case.name}.{self.repair}.{detector}.{self.seed}"

    def paths(self):
        """The files that the runs read, as texts."""
        return [str(path) for path in (self.case.model, *self.case.data().values())]

    def take_up(self, engine, unscanned):
        """Reads the runs that stand; makes the scan that those which don't stand need.

        Args:
            unscanned: {net: what was wrong} of the scans that failed in this call.
        """
        self.scan = self._scan_there()
        for name in self.detectors:
            found = own_result(self._path(name), RUN)
            wanted, inputs = self._inputs(name), found.get("inputs") or {}
            if self.scan is None:  # a run by a scan that is there no more stands
                wanted["scan"] = inputs.get("scan")
            if inputs == wanted:
                self.done[name] = found
        if self.missing and uses_triggers(self.repair):
            wrong = unscanned.get(self.case.name) or self._scanned(engine)
            if wrong:
                unscanned[self.case.name] = wrong
                self.note({}, dict.fromkeys(self.missing, wrong))

    def unit(self, apart):
        """The arguments of `run_group`."""
        data = {part: str(path) for part, path in self.case.data().items()}
        what = (self.repair, self.seed, self.missing, self._standing(apart), self.triggers)
        hashes = {"net": self.digest(self.case.model)}
        hashes |= {part: self.digest(path) for part, path in self.case.data().items()}
        return str(self.case.model), data, hashes, *what

    @property
    def _repaired(self):
        """The repaired net, below the folder of results."""
        return f"nets/{self.repair}.{self.seed}/{self.case.name}.h5"

    @property
    def _about_repair(self):
        return (self.out / self._repaired).with_suffix(".origin.json")

    def _standing(self, apart):
        """`Standing` of the repaired net, if this user's run has made it of just this origin."""
        about = own_result(self._about_repair, REPAIR)
        if about.get("origin") != self._origin():
            return None
        report, sha256 = about["report"], about["sha256"]
        if not apart:
            return Standing(report, sha256)
        try:
            content = np.frombuffer(own_bytes(self.out / self._repaired, sha256), np.uint8)
        except InputError:  # missing or damaged: made anew
            return None
        return Standing(report, sha256, {self._repaired: content})

    def note(self, done, failed, repaired=None):
        """Writes and keeps the results of runs, and keeps and tells what failed.

        Args:
            done: {detector: result}.
            failed: {detector: what was wrong}.
            repaired: `Standing` of the repaired net, if it was made now.
        """
        if repaired is not None:
            about = {"schema": 1, "report": repaired.report, "sha256": repaired.sha256}
            write_json(self._about_repair, {**about, "origin": self._origin()}, sealed=REPAIR)
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
                "false_positive_rate": self.settings["false_positive_rate"],
                **result,
                "inputs": self._inputs(name),
            }
            write_json(self._path(name), self.done[name], sealed=RUN)
        for name, message in failed.items():
            log.warning("%s failed: %s", self.title(name), message)
        self.failed |= failed

    def _path(self, detector):
        return self.out / "runs" / f"{self.title(detector)}.json"

    def _inputs(self, detector):
        """What a run depends on: where it is unchanged, the run need not be done again."""
        return {
            **self._origin(),
            "data": {part: self.digest(path) for part, path in self.case.data().items()},
            "detector": detector,
            "false_positive_rate": self.settings["false_positive_rate"],
        }

    def _origin(self):
        """What the repaired net depends on."""
        return {
            "net": self.digest(self.case.model),
            "clean_validation": self.digest(self.case.validation),
            "repair": self.repair,
            "settings": None if self.repair == NO_REPAIR else asdict(REPAIRS[self.repair].config()),
            "scan": self.scan,
            "seed": self.seed,
            "input_range": str(self.settings["input_range"]),
            "code": code_sha256(),
            "versions": versions(),
        }

    def _scan_there(self):
        """SHA-256 of the triggers that a finished scan of the net has found, if one is there."""
        if not uses_triggers(self.repair):
            return None
        stem, sets = self.scans / self.case.name, (self.case.model, self.case.validation)
        there = scan_of(stem, *sets, input_range=self.settings["input_range"])
        return None if there is None else file_sha256(f"{stem}.npz")

    def _scanned(self, engine):
        """Takes the triggers of the net's scan, which is made if need be; what was wrong."""
        stem, sets = self.scans / self.case.name, (self.case.model, self.case.validation)
        try:
            if self.scan is None:
                how = {"input_range": self.settings["input_range"], "executor": engine}
                scan_file(*sets, out=stem, **how)
                self.scan = self._scan_there()
            self.triggers = found_triggers(stem)
        except EngineError:
            raise
        except Exception as error:  # noqa: BLE001 one net's scan must not end the grid
            return f"{type(error).__name__}: {error}"
        return None
