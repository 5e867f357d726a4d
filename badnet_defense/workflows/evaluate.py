"""From a bad net's file, its repair and data sets to the figures of the defence."""

import logging
import time
from pathlib import Path

from badnet_defense.detectors.registry import needs_repair
from badnet_defense.errors import InputError
from badnet_defense.evaluation.class_counts import class_counts, tell_coverage
from badnet_defense.evaluation.evaluate import evaluate_defense
from badnet_defense.evaluation.input_checks import settled_sets
from badnet_defense.guards.pairing import (
    Pair,
    belongs,
    read_pair,
    repaired_range,
)
from badnet_defense.io import read_images, read_trigger_labels
from badnet_defense.io.files import all_or_none, check_writable
from badnet_defense.io.records import digests_read, provenance
from badnet_defense.io.repair_record import RepairRecord
from badnet_defense.nets import build, describe
from badnet_defense.nets.input_range import UNIT
from badnet_defense.nets.outputs import read_classifier
from badnet_defense.nets.surgery import zero_channels
from badnet_defense.workflows.cross_fitting import check_channels
from badnet_defense.workflows.detect import check_detector, evaluate_detector
from badnet_defense.workflows.repair import repair_file

log = logging.getLogger(__name__)


def evaluate_files(
    model,
    data,
    *,
    folder,
    repaired=None,
    trigger_labels=None,
    detector=None,
    false_positive_rate=0.01,
    plots=None,
    tell=None,
    input_range=None,
    seed=0,
):
    """Every stage of a net's defence on clean and poisoned pictures.

    Args:
        model: path of the bad net.
        data: {"clean_validation": path, "clean_test": path or None, "poisoned": path or None}.
        folder: where the repaired nets are; the net's own is made there if it is missing.
        repaired: path of the repaired net instead.
        trigger_labels: path of True/False for each poisoned picture.
        detector: name of the detector that is the guard (`choice.NAMES`), its threshold set by the
            clean validation pictures; default: the disagreement of both nets. One that asks the
            suspect model alone makes no repair; only a `repaired` that was named is shown beside.
        false_positive_rate: share of honest pictures that it may flag, in (0, 1).
        plots: path, without its endings, of the detector's ROC curve and histograms; None: none.
        tell: called with the result before the first plot is written.
        input_range: the nets' range; None: what the repair holds, else [0, 1].
        seed: as for `repair_file`.

    Returns:
        The result as a dict: provenance, stages, `pruning`, and `detector` where one was named.

    Raises:
        InputError: a file cannot be used, or net, repair and data don't belong together.
    """
    start = time.perf_counter()
    if not any(data.values()):
        raise InputError(
            f"{model}: no pictures to judge with; run python3 -m badnet_defense demo, or "
            "give --clean-validation and --clean-test."
        )
    if plots:
        check_writable(f"{plots}.roc.png", f"{plots}.scores.png")
    alone = detector is not None and not needs_repair(detector) and repaired is None
    spec = read_classifier(model)
    input_range = _known_range(model, None if alone else repaired, folder, alone, input_range)
    sets = {
        part: read_images(path, shape=spec.input_shape)
        for part, path in data.items()
        if path is not None
    }
    if detector is not None:
        check_detector(detector, sets, false_positive_rate)
    triggered = None
    if trigger_labels is not None:
        triggered = read_trigger_labels(trigger_labels, len(sets["poisoned"]))
    spec = spec.with_range(input_range)
    bad, classes = spec.model, spec.classes
    sets = settled_sets(spec, sets)
    _tell_coverage(sets, classes)
    if alone:
        log.info(
            "detector %r asks the suspect model alone: no repair is made, and none is shown (name "
            "one with --repaired to see its figures, too)",
            detector,
        )
        pair = Pair(spec.with_range(input_range), None, None)
    else:
        how = {"input_range": input_range, "seed": seed}
        pair = _pair(model, repaired, data["clean_validation"], folder, how)
    nets = {"bad": bad, **_repaired_nets(pair)}
    guard, about_detector, draw = None, {}, None
    if detector is not None:
        guard, about_detector, draw = evaluate_detector(
            detector,
            pair,
            sets,
            triggered=triggered,
            false_positive_rate=false_positive_rate,
            seed=seed,
        )
    measured = {name: describe(one).with_range(input_range) for name, one in nets.items()}
    stages = evaluate_defense(measured, sets, triggered=triggered, guard=guard)
    about = provenance(
        net_path=model,
        data_paths={**data, "trigger_labels": trigger_labels},
        classes=classes,
        seed=seed,
        seconds=time.perf_counter() - start,
        digest=digests_read(spec, *sets.values()),
    )
    result = {
        **about,
        **stages,
        **about_detector,
        "class_counts": class_counts(sets, classes),
        "label_order": {part: images.label_order for part, images in sets.items()},
        "pruning": pair.pruning,
        "repair": _about(pair.repaired),
    }
    if tell:
        tell(result)
    if plots and draw:
        with all_or_none():
            draw(plots)
    return result


def _tell_coverage(sets, classes):
    for part, images in sets.items():
        if part.startswith("clean"):
            tell_coverage(images, classes)


def _pair(model, repaired, clean, folder, how):
    """The net and its repair, which is made where none is there."""
    own = Path(folder) / f"{Path(model).stem}.h5"
    if repaired is None and not belongs(model, own):
        log.info("%s: no repair of it in %s yet; repairing it first", model, folder)
        if clean is None:
            raise InputError(
                f"{model}: no repair of it in {folder}, and no clean images to make one; give "
                "--clean-validation."
            )
        repair_file(model, clean, out=folder, **how)
    return read_pair(model, repaired, folder=folder, input_range=how["input_range"])


def _known_range(model, repaired, folder, alone, asked):
    """The range that was asked for, else that of the repair, if there is one already."""
    path = repaired or Path(folder) / f"{Path(model).stem}.h5"
    if alone or (repaired is None and not belongs(model, path)):
        return asked or UNIT
    return repaired_range(read_classifier(path), asked)


def _about(repaired):
    """Which repaired net was judged, as it is written into the result; None: no repair was."""
    if repaired is None:
        return None
    file, record = repaired.attributes, RepairRecord.from_attributes(repaired.attributes)
    about = {"file": file["file"], "sha256": file["file_sha256"]}
    recipe = record.config.get("tuning") if record else None
    return {**about, "method": record.method if record else None, "recipe": recipe}


def _repaired_nets(pair):
    """{"repaired": `keras.Model`, "pruned": ..}, as far as there are any."""
    if pair.repaired is None:
        return {}
    nets = {"repaired": build(pair.repaired)}
    record = RepairRecord.from_attributes(pair.repaired.attributes)
    if record is not None and record.pruned_channels is not None:
        check_channels(pair.suspect, *record.pruned_channels, pair.repaired.attributes["file"])
        nets["pruned"] = build(zero_channels(pair.suspect, *record.pruned_channels))
    return nets
