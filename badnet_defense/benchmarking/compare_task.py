"""A unit of work of the grid: all detectors of one net, repair and seed, wherever it is done."""

import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from badnet_defense.benchmarking.compare_run import EvaluationContext, judge_run
from badnet_defense.detectors.registry import check_enough
from badnet_defense.errors import InputError
from badnet_defense.evaluation.input_checks import settled_sets
from badnet_defense.guards.pairing import read_pair
from badnet_defense.io import read_images
from badnet_defense.nets.input_range import InputRange
from badnet_defense.nets.outputs import read_classifier
from badnet_defense.parallel.remote_files import results_below, write_files
from badnet_defense.workflows.calibrate import fit_detector, split_clean
from badnet_defense.workflows.cross_fitting import unseen_share
from badnet_defense.workflows.repair import repair_file

NO_REPAIR = "none"


@dataclass(frozen=True)
class Grid:
    """What all units of a grid share.

    Attributes:
        parcels: {path: `RemoteFile`} of all nets and data.
        out: the folder of the grid's results; None where workers don't see it.
        false_positive_rate: asked of each detector, in (0, 1).
        input_range: the nets' range.
    """

    parcels: dict
    out: str | None
    false_positive_rate: float
    input_range: InputRange

    @property
    def settings(self):
        """The settings of every detector."""
        return {"false_positive_rate": self.false_positive_rate, "input_range": self.input_range}


@dataclass(frozen=True)
class Standing:
    """A repaired net that need not be made again; who handed out the unit answers for it.

    Attributes:
        report: the repair's result.
        sha256: of the net's file.
        files: for workers elsewhere, {path below the folder of results: bytes}.
    """

    report: dict
    sha256: str
    files: dict = field(default_factory=dict)


def run_group(grid, model, data, hashes, repair, seed, detectors, standing, triggers):
    """The runs of one net, repair and seed, which share nets, pictures and answers.

    Args:
        grid: `Grid`.
        model: path of the net, as in `grid.parcels`.
        data: {part: path} of its data, likewise.
        hashes: SHA-256 of the net ("net") and of each part of the data, which the results note.
        repair: its name, or `NO_REPAIR`.
        seed: of repair and detectors.
        detectors: their names.
        standing: `Standing` of the repaired net that is there already, or None.
        triggers: [(label, mask, pattern)] that a scan found, for a repair that takes them, or None.

    Returns:
        ({detector: result}, {detector: what was wrong}, {path: bytes} that was made elsewhere,
        `Standing` of a repaired net that was made now, or None).
    """
    with results_below(grid.out) as (out, made):
        write_files(out, standing.files if standing else {})
        group = _Group(grid, out, model, data, hashes, repair, seed, standing, triggers)
        done, failed = {}, {}
        for name in detectors:
            try:
                done[name] = group.run(name)
            except Exception as error:  # noqa: BLE001 one failing run must not end the grid
                failed[name] = f"{type(error).__name__}: {error}"
        return done, failed, made(), group.repaired


class _Group:
    """Nets, pictures and answers, made with the first detector; a failure fails them all."""

    def __init__(self, grid, out, model, data, hashes, repair, seed, standing, triggers):
        self.grid, self.repair, self.seed, self.triggers = grid, repair, seed, triggers
        self.model, self.data, self.standing = Path(model), data, standing
        self.hashes = hashes
        self.folder = out / "nets" / f"{repair}.{seed}"
        self.judged = self.failure = self.spec = self.repaired = None

    def run(self, detector):
        """A detector's figures beside those of both nets."""
        start = time.perf_counter()
        settings = self.grid.settings
        self._check(detector, settings["false_positive_rate"])
        self._once(self._prepare)
        judged = self.judged
        fitting = time.perf_counter()
        fitted = fit_detector(
            detector,
            judged.bad_spec,
            judged.repaired_spec,
            judged.clean,
            false_positive_rate=settings["false_positive_rate"],
            seed=self.seed,
            fold_repairs=judged.repairs_like_it(settings["false_positive_rate"], self.seed),
        )
        return {
            "classes": judged.bad_spec.classes,
            "seconds": time.perf_counter() - start,
            "repair_seconds": judged.report.get("seconds", 0.0),
            "fit_seconds": time.perf_counter() - fitting,
            "pruning": judged.report.get("pruning"),
            **judge_run(detector, fitted, judged),
        }

    def _check(self, detector, rate):
        """Refuses too few clean images for a detector before a repair is made."""
        self._once(self._read)
        clean = self.sets["clean_validation"]
        check_enough(
            detector, len(clean), rate, source=clean.source, fraction=unseen_share(self.repair)
        )

    def _once(self, make):
        """Calls `make`; what fails once fails for all detectors."""
        if self.failure is not None:
            raise self.failure
        try:
            make()
        except Exception as error:
            self.failure = error
            raise

    def _read(self):
        """Reads and checks the net and all pictures."""
        if self.spec is not None:
            return
        parcels = self.grid.parcels
        self.model = parcels[str(self.model)].here()
        self.data = {part: parcels[path].here() for part, path in self.data.items()}
        spec = read_classifier(self.model)
        sets = {part: read_images(path, shape=spec.input_shape) for part, path in self.data.items()}
        self._check_unchanged(spec, sets)
        self.spec = spec.with_range(self.grid.input_range)
        self.bad = self.spec.model
        self.sets = settled_sets(self.spec, sets)

    def _check_unchanged(self, spec, sets):
        """Refuses other files than those whose hashes the results will note."""
        read = {"net": spec.attributes["file_sha256"]}
        read |= {part: images.sha256 for part, images in sets.items()}
        for name, sha256 in self.hashes.items():
            if read[name] != sha256:
                path = self.model if name == "net" else self.data[name]
                raise InputError(f"{path}: it was changed while the runs were made; start again.")

    def _prepare(self):
        """Makes the repair, or takes the one that stands, and asks both nets."""
        if self.judged is not None:
            return
        input_range = self.grid.input_range
        repaired, report = (None, {}) if self.repair == NO_REPAIR else self._repaired()
        spec = self.spec.with_range(input_range)
        clean = split_clean(spec, repaired, self.sets["clean_validation"])
        self.judged = EvaluationContext.of(
            spec, repaired, self.bad, self.sets, clean, input_range, report
        )

    def _repaired(self):
        """(`Net` of the repaired net, result of the repair), made if it is not there yet."""
        path = self.folder / f"{self.model.stem}.h5"
        if self.standing is not None:
            with suppress(InputError):  # missing or damaged: made anew
                there = read_pair(self.model, path, input_range=self.grid.input_range).repaired
                if there.attributes["file_sha256"] == self.standing.sha256:
                    return there, self.standing.report
        made = repair_file(
            self.model,
            self.data["clean_validation"],
            out=self.folder,
            method=self.repair,
            input_range=self.grid.input_range,
            seed=self.seed,
            triggers=self.triggers,
        )
        repaired = read_pair(self.model, path, input_range=self.grid.input_range).repaired
        self.repaired = Standing(made, repaired.attributes["file_sha256"])
        return repaired, made
