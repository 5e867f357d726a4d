"""From a suspect model's file, its repair and data sets to the figures of the defence."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from badnet_defense.detectors.registry import needs_repair
from badnet_defense.errors import InputError
from badnet_defense.evaluation.class_counts import class_counts, tell_coverage
from badnet_defense.evaluation.evaluate import evaluate_defense
from badnet_defense.evaluation.input_checks import settled_sets
from badnet_defense.guards.pairing import Pair, belongs, read_pair, repaired_range
from badnet_defense.io import Dataset, read_images, read_trigger_labels
from badnet_defense.io.files import all_or_none, check_writable
from badnet_defense.io.records import digests_read, provenance
from badnet_defense.io.repair_record import RepairRecord
from badnet_defense.nets.input_range import UNIT, InputRange
from badnet_defense.nets.net import Net
from badnet_defense.nets.outputs import read_classifier
from badnet_defense.nets.surgery import zero_channels
from badnet_defense.workflows.cross_fitting import check_channels
from badnet_defense.workflows.detect import RATE, check_detector, evaluate_detector
from badnet_defense.workflows.repair import repair_file

log = logging.getLogger(__name__)

Paths = Mapping[str, str | None]


def evaluate_files(
    model: str | Path,
    data: Paths,
    *,
    folder: str | Path,
    repaired: str | Path | None = None,
    trigger_labels: str | Path | None = None,
    detector: str | None = None,
    false_positive_rate: float = RATE,
    plots: str | Path | None = None,
    tell: Callable[[dict[str, Any]], object] | None = None,
    input_range: InputRange | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Every stage of a model's defence on clean and poisoned images.

    Args:
        model: path of the suspect model.
        data: {"clean_validation": path, "clean_test": path or None, "poisoned": path or None}.
        folder: where repaired models are; the model's own is made there if it is missing.
        repaired: path of the repaired model instead.
        trigger_labels: path of True/False per poisoned image.
        detector: name of the detector that is the guard, its threshold set with the clean
            validation images; None: the disagreement of both models. One that needs no repair
            makes none; only a `repaired` that was named is shown beside.
        false_positive_rate: the detector's target, in (0, 1).
        plots: path, without its endings, of the detector's ROC curve and histograms; None: none.
        tell: called with the result before the first plot is written.
        input_range: the models' range; None: what the repair's file records, else [0, 1].
        seed: as for `repair_file`.

    Returns:
        The result as a dict: provenance, stages, `pruning`, and `detector` where one was named.

    Raises:
        InputError: a file cannot be used, or model, repair and data don't belong together.
    """
    start = time.perf_counter()
    if not any(data.values()):
        raise InputError(
            f"{model}: no images to evaluate with; give clean or poisoned ones, or make the demo's."
        )
    if plots:
        check_writable(f"{plots}.roc.png", f"{plots}.scores.png")
    alone = detector is not None and not needs_repair(detector) and repaired is None
    own = Path(repaired or Path(folder) / f"{Path(model).stem}.h5")
    there = not alone and (repaired is not None or belongs(model, own))
    net = _read_suspect(model, own if there else None, input_range)
    sets = _read_sets(net, data)
    if detector is not None:
        check_detector(detector, sets, false_positive_rate)
    triggered = None
    if trigger_labels is not None:
        triggered = read_trigger_labels(trigger_labels, len(sets["poisoned"]))
    sets = _settled(net, sets)
    if alone:
        log.info(
            "detector %r asks the suspect model alone: no repair is made or shown; name one to "
            "see its figures, too",
            detector,
        )
        pair = Pair(net, None, None)
    else:
        if not there:
            _repair(net, model, data.get("clean_validation"), folder, seed)
        pair = read_pair(model, own, input_range=net.input_range, suspect=net)
    result, draw = _measured(pair, sets, triggered, detector, false_positive_rate, seed)
    about = provenance(
        net_path=model,
        data_paths={**data, "trigger_labels": trigger_labels},
        classes=net.classes,
        seed=seed,
        seconds=time.perf_counter() - start,
        digest=digests_read(net, *sets.values()),
    )
    result = {**about, **result}
    if tell:
        tell(result)
    if plots and draw:
        with all_or_none():
            draw(str(plots))
    return result


def _read_suspect(model: str | Path, repaired: Path | None, asked: InputRange | None) -> Net:
    """The suspect model with the range that was asked for, else that of its repair."""
    net = read_classifier(model)
    if repaired is None:
        return net.with_range(asked or UNIT)
    return net.with_range(repaired_range(read_classifier(repaired), asked))


def _read_sets(net: Net, data: Paths) -> dict[str, Dataset]:
    """{name: images} of the sets that were named."""
    return {
        part: read_images(path, shape=net.input_shape)
        for part, path in data.items()
        if path is not None
    }


def _settled(net: Net, sets: dict[str, Dataset]) -> dict[str, Dataset]:
    """The sets with labels that are the model's classes; whom the clean ones leave out is said."""
    settled = settled_sets(net, sets)
    for part, data in settled.items():
        if part.startswith("clean"):
            tell_coverage(data, net.classes)
    return settled


def _repair(net: Net, model: str | Path, clean: str | None, folder: str | Path, seed: int) -> None:
    """Makes the repair that is missing in the folder."""
    log.info("%s: no repaired model for it in %s yet; it is repaired first", model, folder)
    if clean is None:
        raise InputError(
            f"no repaired model for {model} in {folder}, and no clean images to make one; give "
            "clean validation images."
        )
    repair_file(model, clean, out=folder, input_range=net.input_range, seed=seed)


def _measured(
    pair: Pair,
    sets: dict[str, Dataset],
    triggered: np.ndarray | None,
    detector: str | None,
    false_positive_rate: float,
    seed: int,
) -> tuple[dict[str, Any], Callable[[str], None] | None]:
    """(the figures of all stages, what draws the detector's curves)."""
    guard: dict[str, np.ndarray] | None = None
    about: dict[str, Any] = {}
    draw = None
    if detector is not None:
        guard, about, draw = evaluate_detector(
            detector,
            pair,
            sets,
            triggered=triggered,
            false_positive_rate=false_positive_rate,
            seed=seed,
        )
    nets = {"bad": pair.suspect, **_repaired_nets(pair)}
    result = {
        **evaluate_defense(nets, sets, triggered=triggered, guard=guard),
        **about,
        "class_counts": class_counts(sets, pair.suspect.classes),
        "label_order": {part: images.label_order for part, images in sets.items()},
        "pruning": pair.pruning,
        "repair": _about(pair.repaired),
    }
    return result, draw


def _about(repaired: Net | None) -> dict[str, Any] | None:
    """Which repaired model was evaluated, as it is written into the result; None: none was."""
    if repaired is None:
        return None
    file, record = repaired.attributes, RepairRecord.from_attributes(repaired.attributes)
    about = {"file": file["file"], "sha256": file["file_sha256"]}
    recipe = record.config.get("tuning") if record else None
    return {**about, "method": record.method if record else None, "recipe": recipe}


def _repaired_nets(pair: Pair) -> dict[str, Net]:
    """{"repaired": net, "pruned": ..}, as far as there are any."""
    if pair.repaired is None:
        return {}
    nets = {"repaired": pair.repaired}
    record = RepairRecord.from_attributes(pair.repaired.attributes)
    if record is not None and record.pruned_channels is not None:
        check_channels(pair.suspect, *record.pruned_channels, pair.repaired.attributes["file"])
        nets["pruned"] = zero_channels(pair.suspect, *record.pruned_channels)
    return nets
