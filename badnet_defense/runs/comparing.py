"""The grid of nets, repairs, detectors and seeds: one JSON a run, taken up where it stopped."""

import logging
import time
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

from tqdm import tqdm

from badnet_defense.data import read_images
from badnet_defense.data.files import data_sha256
from badnet_defense.errors import InputError
from badnet_defense.guard.choice import needs_repair
from badnet_defense.guard.pairing import belongs, read_pair
from badnet_defense.measure.belonging import check_belonging
from badnet_defense.measure.results import provenance, read_json, versions, write_json
from badnet_defense.nets import build, read_net
from badnet_defense.runs.comparing_run import Judged, judge_run
from badnet_defense.runs.fitting import fit_detector, split_clean
from badnet_defense.runs.methods import own_recipe
from badnet_defense.runs.repairing import repair_file

log = logging.getLogger(__name__)

NO_REPAIR = "none"
MULTI = "Multi-trigger Multi-target"
_GLASSES = {"sunglasses": "sunglasses_poisoned_data.h5"}
POISONED = {
    **dict.fromkeys(
        ("sunglasses_bd_net", "sunglasses_rare_bd_net", "sunglasses_aware_bd_net"), _GLASSES
    ),
    "anonymous_1_bd_net": {"lipstick": "anonymous_1_poisoned_data.h5"},
    "multi_trigger_multi_target_bd_net": {
        name: f"{MULTI}/{name}_poisoned_data.h5" for name in ("eyebrows", "lipstick", "sunglasses")
    },
}
"""Poisoned files by net, for the challenge's and the demo's hard ones; anonymous_2's is not
published."""


@dataclass(frozen=True)
class Case:
    """A net with the pictures to repair and judge it with.

    Attributes:
        model: path of the bad net.
        validation: path of the clean pictures that repair it and set thresholds.
        test: path of the clean pictures that judge.
        poisoned: {trigger: path}, whose labels are the attacker's.
    """

    model: Path
    validation: Path
    test: Path
    poisoned: dict[str, Path] = field(default_factory=dict)

    @property
    def name(self):
        """The file's stem."""
        return Path(self.model).stem

    def data(self):
        """{name: path} of all its data files."""
        return {"clean_validation": self.validation, "clean_test": self.test, **self.poisoned}


def read_case(text, *, data, validation=None, test=None):
    """A `Case` from `MODEL` or `MODEL=POISONED.h5,POISONED.h5`.

    Args:
        text: as above; without poisoned files those of the challenge's names in `data` are taken.
        data: folder of the challenge's files.
        validation, test: paths of clean pictures; default: the challenge's in `data`.

    Raises:
        InputError: a file is missing.
    """
    model, _, named = text.partition("=")
    data = Path(data)
    if named:
        files = [Path(path) for path in named.split(",")]
        poisoned = {file.stem.removesuffix("_poisoned_data"): file for file in files}
        if len(poisoned) < len(files) or set(poisoned) & {"clean_validation", "clean_test"}:
            raise InputError(f"{text}: poisoned files need names that differ and say the trigger.")
    else:
        known = POISONED.get(Path(model).stem, {})
        poisoned = {name: data / file for name, file in known.items() if (data / file).exists()}
    validation = Path(validation or data / "clean_validation_data.h5")
    test = Path(test or data / "clean_test_data.h5")
    case = Case(Path(model), validation, test, poisoned)
    for path in (case.model, *case.data().values()):
        if not path.exists():
            raise InputError(f"{path}: no such file; compare takes MODEL or MODEL=POISONED.h5,..")
    return case


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


def compare(cases, *, repairs, detectors, seeds, out, false_alarm_rate, input_range):
    """Runs the grid; a run whose JSON stands and whose inputs are unchanged is not done again.

    Args:
        cases: `Case`s.
        repairs: names of `methods.METHODS`.
        detectors: names of `choice.NAMES`; those that need no repair run once for each seed.
        seeds: of repairs and detectors.
        out: folder; `<out>/runs/*.json` and the repaired nets in `<out>/nets`.
        false_alarm_rate: asked of each detector, in (0, 1).
        input_range: the nets' range.

    Returns:
        ([result of each run that stands], [(name of a run, what was wrong)]).

    Raises:
        InputError: two nets of one name.
    """
    done, failed = [], []
    names = [case.name for case in cases]
    if len(set(names)) < len(names):
        raise InputError(f"nets of one name came ({', '.join(names)}); rename a file.")
    grid = runs_of(cases, repairs, detectors, seeds)
    settings = {"false_alarm_rate": false_alarm_rate, "input_range": input_range}
    with tqdm(total=sum(len(names) for *_, names in grid), desc="runs", disable=None) as bar:
        for case, repair, seed, names in grid:
            group = _Group(case, repair, seed, Path(out), settings)
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

    def __init__(self, case, repair, seed, out, settings):
        self.case, self.repair, self.seed, self.out = case, repair, seed, out
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
        """The settings of the repair's tuning, or None."""
        recipe = None if self.repair == NO_REPAIR else own_recipe(self.repair)
        return None if recipe is None else asdict(recipe)

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
            )
        return read_pair(self.case.model, path).repaired, read_json(about)


def _readable(path):
    """A result, or an empty one where nothing is there or it cannot be read: it is made anew."""
    try:
        return read_json(path)
    except InputError:
        return {}


_sha256 = cache(data_sha256)
