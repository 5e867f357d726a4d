"""The grid of nets, repairs, detectors and seeds: one JSON a run, taken up where it stopped."""

import logging
import time
from functools import cache
from pathlib import Path

from tqdm import tqdm

from badnet_defense.data import read_images
from badnet_defense.data.files import data_sha256, only_run
from badnet_defense.errors import InputError
from badnet_defense.guard.choice import needs_repair
from badnet_defense.guard.pairing import belongs, read_pair
from badnet_defense.measure.belonging import check_belonging
from badnet_defense.measure.results import provenance, read_json, versions, write_json
from badnet_defense.nets import build, read_net
from badnet_defense.runs.comparing_run import Judged, judge_run
from badnet_defense.runs.fitting import fit_detector, split_clean
from badnet_defense.runs.methods import SCANNING, own_settings
from badnet_defense.runs.repairing import repair_file
from badnet_defense.runs.scanned import found_triggers, scan_of
from badnet_defense.runs.scanning import scan_file

log = logging.getLogger(__name__)

NO_REPAIR = "none"


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


def compare(cases, *, repairs, detectors, seeds, out, scans, false_alarm_rate, input_range):
    """Runs the grid; a run whose JSON stands and whose inputs are unchanged is not done again.

    Args:
        cases: `Case`s.
        repairs: names of `methods.METHODS`.
        detectors: names of `choice.NAMES`; those that need no repair run once for each seed.
        seeds: of repairs and detectors.
        out: folder; `<out>/runs/*.json` and the repaired nets in `<out>/nets`.
        scans: folder of the nets' scans, `<scans>/<net>.*`; what scan-unlearning needs and is not
            there is made once for all seeds.
        false_alarm_rate: asked of each detector, in (0, 1).
        input_range: the nets' range.

    Returns:
        ([result of each run that stands], [(name of a run, what was wrong)]).

    Raises:
        InputError: two nets of one name, or another run is at `out`.
    """
    done, failed = [], []
    names = [case.name for case in cases]
    if len(set(names)) < len(names):
        raise InputError(f"nets of one name came ({', '.join(names)}); rename a file.")
    grid = runs_of(cases, repairs, detectors, seeds)
    settings = {"false_alarm_rate": false_alarm_rate, "input_range": input_range}
    out, scans = Path(out), Path(scans)
    total = sum(len(names) for *_, names in grid)
    with only_run(out), tqdm(total=total, desc="runs", disable=None) as bar:
        for case, repair, seed, names in grid:
            group = _Group(case, repair, seed, out, scans, settings)
            for name in names:
                bar.set_postfix_str(group.title(name))
                try:
                    done.append(group.result(name))
                except Exception as error:  # noqa: BLE001 one failing run must not end the grid
                    failed.append((group.title(name), f"{type(error).__name__}: {error}"))
                    log.warning("%s failed: %s", *failed[-1])
                bar.update()
    return done, failed


class _Group:
    """The runs of one net, repair and seed, which share nets, pictures and answers."""

    def __init__(self, case, repair, seed, out, scans, settings):
        self.case, self.repair, self.seed = case, repair, seed
        self.out, self.scans = out, scans
        self.settings = settings
        self.judged = self.failure = None

    def title(self, detector):
        return f"{self.case.name}.{self.repair}.{detector}.{self.seed}"

    def inputs(self, detector):
        """What a run depends on: where it is unchanged, the run need not be done again."""
        return {
            "net": _sha256(self.case.model),
            "data": {part: _sha256(path) for part, path in self.case.data().items()},
            "repair": self.repair,
            "recipe": self.recipe(),
            "detector": detector,
            "seed": self.seed,
            "version": versions()["badnet_defense"],
            "false_alarm_rate": self.settings["false_alarm_rate"],
            "input_range": str(self.settings["input_range"]),
        }

    def recipe(self):
        """The settings that the repair learns with, or None."""
        return None if self.repair == NO_REPAIR else own_settings(self.repair)

    def result(self, detector):
        """The run's result: read, or made and written."""
        path = self.out / "runs" / f"{self.title(detector)}.json"
        inputs = self.inputs(detector)
        found = _readable(path)
        if found.get("inputs") == inputs:
            return found
        found = {**self._run(detector), "inputs": inputs}
        write_json(path, found)
        return found

    def _run(self, detector):
        start = time.perf_counter()
        judged = self._prepared()
        fitting = time.perf_counter()
        fitted = fit_detector(
            detector,
            (judged.bad_spec, judged.repaired_spec),
            judged.clean,
            seed=self.seed,
            likes=judged.repairs_like_it(self.settings["false_alarm_rate"], self.seed),
            **self.settings,
        )
        fit_seconds = time.perf_counter() - fitting
        about = provenance(
            net_path=self.case.model,
            data_paths=self.case.data(),
            classes=judged.bad_spec.classes,
            seed=self.seed,
            seconds=time.perf_counter() - start,
        )
        return {
            **about,
            "name": self.case.name,
            "repair": self.repair,
            "detector": detector,
            "false_alarm_rate": self.settings["false_alarm_rate"],
            "repair_seconds": judged.report.get("seconds", 0.0),
            "fit_seconds": fit_seconds,
            "pruning": judged.report.get("pruning"),
            **judge_run(detector, fitted, judged),
        }

    def _prepared(self):
        """Net, repair, pictures and answers, once for all detectors; a failure fails them all."""
        if self.failure is not None:
            raise self.failure
        try:
            self.judged = self.judged or self._prepare()
        except Exception as error:
            self.failure = error
            raise
        return self.judged

    def _prepare(self):
        spec = read_net(self.case.model)
        input_range = self.settings["input_range"]
        repaired, report = None, {}
        if self.repair != NO_REPAIR:
            repaired, report = self._repaired()
        sets = {
            part: read_images(path, shape=spec.input_shape, classes=spec.classes)
            for part, path in self.case.data().items()
        }
        bad = build(spec)
        for part in ("clean_validation", "clean_test"):
            check_belonging(
                bad,
                sets[part],
                classes=spec.classes,
                input_range=input_range,
                net_name=self.case.model,
            )
        clean = split_clean(sets["clean_validation"], bad, repaired, input_range=input_range)
        return Judged.of(spec, repaired, bad, sets, clean, input_range, report)

    def _repaired(self):
        """(`NetSpec` of the repaired net, result of the repair), made if it is not there yet."""
        folder = self.out / "nets" / f"{self.repair}.{self.seed}"
        path = folder / f"{self.case.name}.h5"
        about = folder / f"{self.case.name}.json"
        range_ = self.settings["input_range"]
        made = _readable(about)
        fresh = belongs(self.case.model, path) and (
            made.get("data", {}).get("clean_validation", {}).get("sha256"),
            made.get("input_range"),
            made.get("recipe"),
        ) == (_sha256(self.case.validation), str(range_), self.recipe())
        if not fresh:
            # The repaired net is written last: without the old one, its being there means all is.
            path.unlink(missing_ok=True)
            repair_file(
                self.case.model,
                self.case.validation,
                out=folder,
                method=self.repair,
                input_range=range_,
                seed=self.seed,
                **self._scanned(),
            )
        return read_pair(self.case.model, path).repaired, read_json(about)

    def _scanned(self):
        """The settings of a repair by what a scan found; the scan is made if it is not there."""
        if self.repair != SCANNING:
            return {}
        stem, sets = self.scans / self.case.name, (self.case.model, self.case.validation)
        input_range = self.settings["input_range"]
        if scan_of(stem, *sets, input_range=input_range) is None:
            scan_file(*sets, out=stem, input_range=input_range)
        return {"triggers": found_triggers(stem)}


def _readable(path):
    """A result, or an empty one where nothing is there or it cannot be read: it is made anew."""
    try:
        return read_json(path)
    except InputError:
        return {}


_sha256 = cache(data_sha256)
