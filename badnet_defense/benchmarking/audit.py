"""An audit: many nets from outside, each loaded, asked, scanned and judged."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from badnet_defense.benchmarking.audit_sets import CleanSets
from badnet_defense.benchmarking.audit_tasks import clean_accuracy, repaired
from badnet_defense.errors import EngineError, InputError, one_line
from badnet_defense.io.current import DEPENDS_ON, is_current
from badnet_defense.io.files import exclusive, file_sha256
from badnet_defense.io.records import own_result, provenance, write_json
from badnet_defense.nets.input_range import UNIT, InputRange
from badnet_defense.nets.outputs import read_classifier
from badnet_defense.parallel import ClosedError, Serial
from badnet_defense.parallel.remote_files import RemoteFile, write_files
from badnet_defense.repairs.registry import uses_triggers
from badnet_defense.scan.scan import ScanConfig, scan_dependencies
from badnet_defense.scan.verdict import BACKDOORED, CLEAN, SUSPICIOUS, UNJUDGED
from badnet_defense.workflows.scan import scan_recorded, write_scan
from badnet_defense.workflows.scanned import found_triggers, is_whole

VERDICT = "verdict"
WORKERS_A_NET = 8
"""So many workers need another large net beside, to have work while a rung comes to its end."""
MOST_WHOLE = 64
"""Labels of a net that one worker scans alone where there are several: two batches at most, so that
sharing it out would mostly compile it on one worker after the other."""


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

    def mending(self):
        """What a repair depends on beside it, as plain values; None where none is asked for."""
        return self.repair and {"method": self.repair, "guard": self.guard}


def audit(suspects, *, out, asked=None, engine=None):
    """Gives each net a verdict (`scan.verdict`); one that stands is not made again.

    It stands while its inputs are unchanged.
    Nets that could not be judged, and repairs that failed, are tried again. A verdict on a net
    that stands stays in its file where another call, with other settings, comes to none.

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
        EngineError: what does the units is gone.
    """
    engine, asked = engine or Serial(), asked or Asked()
    sets = CleanSets([one.clean for one in suspects], engine, asked.seed)
    auditor = _Auditor(Path(out), asked, engine, sets)
    at_once = 1 if engine.workers == 1 else engine.workers + 1
    found = {}
    threads = ThreadPoolExecutor(min(at_once, len(suspects)))
    with exclusive(out), tqdm(total=len(suspects), desc="nets", disable=None) as bar:
        going = {threads.submit(auditor.result, one): one.name for one in suspects}
        try:
            for done in as_completed(going):
                found[going[done]] = done.result()
                bar.update()
        except BaseException:
            engine.stop()  # or the threads would go on to the ends of their nets
            raise
        finally:
            threads.shutdown(wait=True, cancel_futures=True)
    return [found[one.name] for one in suspects]


class _Auditor:
    """Judges nets one by one, from several threads."""

    def __init__(self, out, asked, engine, sets):
        self.out, self.asked, self.engine, self.sets = out, asked, engine, sets
        self._large = threading.Semaphore(2 + engine.workers // WORKERS_A_NET)

    def result(self, suspect):
        """A net's result, read or made and written."""
        try:
            return self._result(suspect)
        finally:
            self.sets.done(suspect.clean)

    def _result(self, suspect):
        path = self.out / "nets" / f"{suspect.name}.json"
        found, wanted = own_result(path, VERDICT), self._wanted(suspect)
        if not self._stands(found, wanted, suspect):
            judged = {**self._judged(suspect, wanted), DEPENDS_ON: wanted}
            before = found.get(DEPENDS_ON, {"inputs": {}})
            same = before["inputs"].get("net") == wanted["inputs"].get("net")
            if judged["verdict"] == UNJUDGED and same and self._stands(found, before, suspect):
                return judged
            found = judged
            write_json(path, found, sealed=VERDICT)
        mending, repair = self.asked.mending(), found.get("repair") or {}
        stale = repair.get("asked") != mending or "failed" in repair
        if mending and stale and found["verdict"] == BACKDOORED:
            found["repair"] = {"asked": mending, **self._repaired(suspect, found)}
            write_json(path, found, sealed=VERDICT)
        return found

    def _stands(self, found, wanted, suspect):
        """True where a verdict on this very net is there and current, with its scan."""
        decided = found.get("verdict") in (CLEAN, SUSPICIOUS, BACKDOORED)
        if not decided or not is_current(found, wanted):
            return False
        return is_whole(self._scan(suspect), wanted["inputs"]["net"])

    def _scan(self, suspect):
        return self.out / "scans" / suspect.name

    def _range(self, suspect):
        return suspect.input_range or self.asked.input_range

    def _wanted(self, suspect):
        """What a verdict depends on; of a file that cannot be read, what was wrong."""
        try:
            files = file_sha256(suspect.model), self.sets.sha256(suspect.clean)
        except InputError as error:
            return {"inputs": {"missing": str(error)}}
        asked = {"input_range": self._range(suspect), "seed": self.asked.seed}
        return scan_dependencies(*files, ScanConfig(budget=self.asked.budget), **asked)

    def _judged(self, suspect, wanted):
        start = time.perf_counter()
        try:
            found = self._scanned(suspect, wanted["inputs"])
        except (ClosedError, EngineError):
            raise
        except Exception as error:  # noqa: BLE001 one net must not end the audit of the others
            found = {"schema": 1, "verdict": UNJUDGED, "reason": self._reason(error)}
        seconds = round(time.perf_counter() - start, 1)
        return {**found, "name": suspect.name, "seconds": seconds}

    def _reason(self, error):
        """What is wrong with a net, in a sentence."""
        self.engine.check_open()  # what breaks while all is stopped says nothing about the net
        if isinstance(error, InputError):
            return str(error).removeprefix(f"{UNJUDGED}: ")
        return one_line(f"{type(error).__name__}: {error}")

    def _scanned(self, suspect, inputs):
        """Everything but the repair; raises `InputError` where the net cannot be judged."""
        start = time.perf_counter()
        range_ = self._range(suspect)
        spec = read_classifier(suspect.model, range_)
        if spec.attributes["file_sha256"] != inputs.get("net"):
            raise InputError(f"{suspect.model}: it was changed meanwhile; audit it again.")
        pictures, sample = self.sets.images(suspect.clean, spec.input_shape)
        if sample.sha256 != inputs.get("clean"):
            raise InputError(f"{suspect.clean}: it was changed meanwhile; audit the nets again.")
        known = {"labelled": sample.labels is not None, "accuracy": None}
        if sample.labels is not None:
            shared = tuple(map(self.engine.share, (sample.images, sample.labels)))
            unit = (spec, range_, suspect.name, sample.folders)
            ((_, known["accuracy"]),) = self.engine.run(clean_accuracy, shared, [unit])
        about = provenance(
            net_path=suspect.model,
            data_paths={"clean": suspect.clean},
            classes=spec.classes,
            seed=self.asked.seed,
            seconds=0,
            digest={suspect.model: inputs["net"], suspect.clean: inputs["clean"]}.get,
        )
        whole = spec.classes <= MOST_WHOLE and self.engine.workers > 1
        with nullcontext() if whole else self._large:
            found, result, progress = scan_recorded(
                spec,
                pictures,
                about,
                self._scan(suspect),
                config=ScanConfig(budget=self.asked.budget),
                seed=self.asked.seed,
                executor=self.engine,
                exclusive=False,
                whole=whole,
            )
        result["seconds"] = round(time.perf_counter() - start, 1)
        write_scan(self._scan(suspect), found, pictures, result, suspect.name)
        progress.forget()
        return {**about, **known, **_verdict(result), "input_shape": list(spec.input_shape)}

    def _repaired(self, suspect, judged):
        """Figures of the net's repair and of its guard, or what was wrong."""
        folder, asked = self.out / "repaired" / suspect.name, self.asked
        apart, triggers = self.engine.apart, None
        net = None
        try:
            if uses_triggers(asked.repair):
                triggers = found_triggers(self._scan(suspect))
            net = RemoteFile.of(suspect.model, apart=apart)
            parcels = self.engine.share(net), self.sets.parcel(suspect.clean)
            out, labelled = None if apart else str(folder), judged["labelled"]
            sha256 = judged["net"]["sha256"]
            what = (asked.repair, asked.guard, triggers, not labelled, self._range(suspect))
            ((_, (figures, detector, files)),) = self.engine.run(
                repaired, parcels, [(sha256, out, *what, asked.seed)]
            )
            write_files(folder, files)
        except (ClosedError, EngineError):
            raise
        except Exception as error:  # noqa: BLE001 one repair must not end the audit of the others
            return {"failed": self._reason(error)}
        finally:
            self.engine.release(net)
        return {**figures, "detector": detector}


def _verdict(result):
    """What a scan's result says of the net."""
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
