"""An audit: many nets from outside, each loaded, asked, scanned and judged."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from badnet_defense.data import read_images
from badnet_defense.data.files import data_sha256, file_sha256, only_run
from badnet_defense.data.input_range import UNIT, InputRange
from badnet_defense.data.labels import check_labels
from badnet_defense.engine import ClosedError, Serial
from badnet_defense.errors import InputError, one_line
from badnet_defense.measure.results import provenance, readable, versions, write_json
from badnet_defense.nets import read_net
from badnet_defense.runs.auditing_units import clean_accuracy, repaired
from badnet_defense.runs.methods import SCANNED, SCANNING
from badnet_defense.runs.parcels import Parcel, write_files
from badnet_defense.runs.scanned import found_triggers
from badnet_defense.runs.scanning import scan_pictures, write_scan

CLEAN, BACKDOORED, UNJUDGED = "clean", "backdoored", "cannot be judged"
WORKERS_A_NET = 8
"""So many workers need another net beside, to have work while a net's rung comes to its end."""
MOST_ASKED = 2000
"""Labelled clean pictures, drawn at random, that tell a net's accuracy."""
LEAST_CLASSES = 3
"""Among fewer no label stands out."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of every net of an audit.

    Args:
        budget: of the scans, "fast" or "full".
        repair: the method that repairs nets with a backdoor, or None.
        guard: the detector of their guards.
        input_range: the nets' range.
        seed: of scans and repairs.
    """

    budget: str = "fast"
    repair: str | None = None
    guard: str = "soft"
    input_range: InputRange = UNIT
    seed: int = 0

    def verdict(self):
        """What a verdict depends on, as plain values."""
        return {"budget": self.budget, "input_range": str(self.input_range), "seed": self.seed}

    def mending(self):
        """What a repair depends on beside it, as plain values; None where none is asked for."""
        return self.repair and {"method": self.repair, "guard": self.guard}


def audit(suspects, *, out, asked=None, engine=None):
    """Judges each net; one whose verdict stands and whose inputs are unchanged is not judged again.

    Nets that could not be judged, and repairs that failed, are tried again.

    Args:
        suspects: `zoo.Suspect`s.
        out: folder; `<out>/nets/<name>.json` with the verdict, the scan in `<out>/scans/<name>.*`,
            repaired nets and guards in `<out>/repaired`.
        asked: `Asked`; default: its defaults.
        engine: what does the units; default: this process.

    Returns:
        [result of each net], in their order; a dict as it stands in its JSON file.

    Raises:
        InputError: another run is at `out`.
    """
    engine = engine or Serial()
    auditor = _Auditor(Path(out), asked or Asked(), engine)
    at_once = 1 if engine.workers == 1 else 2 + engine.workers // WORKERS_A_NET
    found = {}
    threads = ThreadPoolExecutor(min(at_once, len(suspects)))
    with only_run(out), tqdm(total=len(suspects), desc="nets", disable=None) as bar:
        going = {threads.submit(auditor.result, one): one.name for one in suspects}
        try:
            for done in as_completed(going):
                found[going[done]] = done.result()
                bar.update()
        except BaseException:
            engine.close()  # or the threads would go on to the ends of their nets
            raise
        finally:
            threads.shutdown(wait=True, cancel_futures=True)
    return [found[one.name] for one in suspects]


class _Auditor:
    """Judges nets one by one, from several threads; clean pictures are read once."""

    def __init__(self, out, asked, engine):
        self.out, self.asked, self.engine = out, asked, engine
        self._reading, self._sets = threading.Lock(), {}
        self._sha256 = cache(data_sha256)

    def result(self, suspect):
        """A net's result, read or made and written."""
        path = self.out / "nets" / f"{suspect.name}.json"
        found, inputs = readable(path), self._inputs(suspect)
        if found.get("inputs") != inputs or found.get("verdict") == UNJUDGED:
            found = {**self._judged(suspect), "inputs": inputs}
            write_json(path, found)
        mending, repair = self.asked.mending(), found.get("repair") or {}
        stale = repair.get("asked") != mending or "failed" in repair
        if mending and stale and found["verdict"] == BACKDOORED:
            found["repair"] = {"asked": mending, **self._repaired(suspect, found["labelled"])}
            write_json(path, found)
        return found

    def _inputs(self, suspect):
        """What a verdict depends on; of a file that cannot be read, what was wrong."""
        try:
            files = {"net": file_sha256(suspect.model), "clean": self._sha256(suspect.clean)}
        except InputError as error:
            files = {"missing": str(error)}
        return {**files, **self.asked.verdict(), "version": versions()["badnet_defense"]}

    def _judged(self, suspect):
        start = time.perf_counter()
        try:
            found = self._scanned(suspect)
        except InputError as error:
            found = {"schema": 1, "verdict": UNJUDGED, "reason": str(error)}
        except ClosedError:
            raise
        except Exception as error:  # noqa: BLE001 one net must not end the audit of the others
            reason = one_line(f"{type(error).__name__}: {error}")
            found = {"schema": 1, "verdict": UNJUDGED, "reason": reason}
        seconds = round(time.perf_counter() - start, 1)
        return {**found, "name": suspect.name, "seconds": seconds}

    def _scanned(self, suspect):
        """Everything but the repair; raises `InputError` where the net cannot be judged."""
        spec, range_ = read_net(suspect.model), self.asked.input_range
        if spec.classes < LEAST_CLASSES:
            raise InputError(
                f"{spec.classes} classes came, expected at least {LEAST_CLASSES}: among fewer none "
                "stands out."
            )
        pictures, sample = self._pictures(suspect.clean, spec.input_shape)
        known = {"labelled": sample.labels is not None, "accuracy": None}
        if sample.labels is not None:
            check_labels(sample.labels, spec.classes, suspect.clean)
            shared = tuple(map(self.engine.share, (sample.pictures, sample.labels)))
            unit = (spec, range_, suspect.name)
            ((_, known["accuracy"]),) = self.engine.run(clean_accuracy, shared, [unit])
        about = provenance(
            net_path=suspect.model,
            data_paths={"clean": suspect.clean},
            classes=spec.classes,
            seed=self.asked.seed,
            seconds=0,
            digest=self._sha256,
        )
        out = self.out / "scans" / suspect.name
        found, result, progress = scan_pictures(
            spec,
            pictures,
            about,
            out,
            labels=None,
            budget=self.asked.budget,
            input_range=range_,
            seed=self.asked.seed,
            engine=self.engine,
            alone=False,
        )
        if not np.isfinite(found.norms).all():
            raise InputError(
                "its answers are no numbers on the clean pictures; nothing is measured."
            )
        write_scan(out, found, pictures, result, suspect.name)
        progress.forget()
        return {**about, **known, **_verdict(result), "input_shape": list(spec.input_shape)}

    def _pictures(self, path, shape):
        """(pictures that a scan draws from, `LabelledImages` that tell the accuracy)."""
        with self._reading:
            if (path, shape) not in self._sets:
                images, seed = read_images(path, shape=shape), self.asked.seed
                scanned = images.drawn(SCANNED, seed).pictures
                self._sets[path, shape] = scanned, images.drawn(MOST_ASKED, seed)
            return self._sets[path, shape]

    def _repaired(self, suspect, labelled):
        """Figures of the net's repair and of its guard, or what was wrong."""
        folder, asked = self.out / "repaired" / suspect.name, self.asked
        apart = self.engine.apart
        paths = str(suspect.model), str(suspect.clean)
        triggers = None
        if asked.repair == SCANNING:
            triggers = found_triggers(self.out / "scans" / suspect.name)
        out = None if apart else str(folder)
        what = (asked.repair, asked.guard, triggers, not labelled, asked.input_range, asked.seed)
        try:
            parcels = self.engine.share({path: Parcel.of(path, apart=apart) for path in paths})
            ((_, (figures, detector, files)),) = self.engine.run(
                repaired, (parcels,), [(*paths, out, *what)]
            )
            self.engine.release(parcels)
            write_files(folder, files)
        except ClosedError:
            raise
        except Exception as error:  # noqa: BLE001 one repair must not end the audit of the others
            return {"failed": one_line(f"{type(error).__name__}: {error}")}
        return {**figures, "detector": detector}


def _verdict(result):
    """What a scan's result says of the net."""
    flagged = result["flagged"]
    return {
        "verdict": BACKDOORED if flagged else CLEAN,
        "reason": None,
        "targets": [entry["label"] for entry in flagged],
        "flagged": flagged,
        "largest_index": max(result["anomaly_indices"]),
        "limit": result["limit"],
    }
