"""From a suspect model's file and clean images to its repair, its guard, its plot and figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from badnet_defense.detectors.poisoned_clean import find_poisoned, tell_poisoned
from badnet_defense.errors import InputError
from badnet_defense.evaluation.class_counts import class_counts
from badnet_defense.evaluation.evaluate import evaluate_defense
from badnet_defense.io import read_images
from badnet_defense.io.dataset import Dataset
from badnet_defense.io.files import all_or_none, check_writable, exclusive
from badnet_defense.io.records import digests_read, provenance, write_json
from badnet_defense.io.repair_record import RepairRecord, check_config
from badnet_defense.nets.input_range import InputRange
from badnet_defense.nets.net import Net
from badnet_defense.nets.outputs import read_classifier
from badnet_defense.nets.surgery import zero_channels
from badnet_defense.repairs.base import RepairInputs, check_inputs, run_method
from badnet_defense.repairs.registry import DEFAULT, REPAIRS
from badnet_defense.repairs.scanned_triggers import Trigger
from badnet_defense.report.plots import plot_pruning_curve
from badnet_defense.workflows.pair_files import record_of, write_pair

_ENDINGS = (".h5", ".guard.keras", ".json", ".pruning.png")
"""Of the files that a repair writes."""


def repair_file(
    model: str | Path,
    clean: str | Path,
    *,
    out: str | Path,
    method: str = DEFAULT,
    config: Any = None,
    pseudo_labels: bool = False,
    triggers: Sequence[Trigger] | None = None,
    input_range: InputRange | None = None,
    seed: int = 0,
    tell: Callable[[dict[str, Any]], object] | None = None,
) -> dict[str, Any]:
    """Repairs the net in `model` and writes `<stem>.h5`, `.guard.keras` and `.json`.

    Pruning draws its curve into `<stem>.pruning.png` too.

    Args:
        model: path of the suspect model.
        clean: path of the clean images.
        out: folder for the files.
        method, config, pseudo_labels, triggers, seed: as for `badnet_defense.repairs.repair`.
        input_range: the model's range; default: the one recorded in its file, else [0, 1].
        tell: called with the result before the first file is written: what cannot be written then
            costs no figures.

    Returns:
        The result as a dict, as it stands in the JSON file: each stage on the clean images, the
        method's report (for fine-pruning `pruning` and `tuning`).

    Raises:
        InputError: the net or the images cannot be used, or don't belong together, or another
            run is repairing this very net into this folder.
    """
    start = time.perf_counter()
    base = Path(out) / Path(model).stem
    with exclusive(base):
        config = _checked_config(model, clean, base, method, config)
        net = read_classifier(model, input_range)
        data = read_images(
            clean,
            shape=net.input_shape,
            need_labels=not pseudo_labels,
            labels_matter=not pseudo_labels,
        )
        inputs = check_inputs(net, data, method, config, pseudo_labels=pseudo_labels)
        data = inputs.data.without_labels() if pseudo_labels else inputs.data
        poisoned = find_poisoned(net, data, seed=seed)
        tell_poisoned(poisoned, data.source)
        repaired, report = run_method(net, inputs, seed=seed, triggers=triggers)
        nets, stages = _stages(net, repaired, report, data)
        record = record_of(
            net,
            inputs.data,
            method,
            config,
            seed=seed,
            pseudo_labels=pseudo_labels,
            pruning=report.get("pruning"),
        )
        about = provenance(
            net_path=model,
            data_paths={"clean_validation": clean},
            classes=net.classes,
            seed=seed,
            seconds=time.perf_counter() - start,
            digest=digests_read(net, data),
        )
        facts = {"poisoned_clean": poisoned, **_facts(net, inputs, data)}
        result = {**about, **stages, **report, **facts, "repair_record": asdict(record)}
        if tell:
            tell(result)
        _write(base, nets, record, result)
    return result


def _checked_config(
    model: str | Path, clean: str | Path, base: Path, method: str, config: Any
) -> Any:
    """The method's config; refuses what cannot be written, or cannot be recorded, at once."""
    if Path(f"{base}.h5").resolve() == Path(model).resolve():
        raise InputError(
            f"{base.parent}: the repair would overwrite {model} itself; name another output folder."
        )
    check_writable(*(f"{base}{end}" for end in _ENDINGS), inputs=(model, clean))
    config = REPAIRS[method].config() if config is None else config
    check_config(asdict(config))
    return config


def _stages(
    net: Net, repaired: Net, report: dict[str, Any], data: Dataset
) -> tuple[dict[str, Net], dict[str, Any]]:
    """({"bad": the suspect model, "repaired": .., "pruned": ..}, figures on the clean images)."""
    nets = {"bad": net, "repaired": repaired}
    if data.labels is not None and "pruning" in report:
        pruning = report["pruning"]
        zeroed = pruning["order"][: pruning["removed"]]
        nets["pruned"] = zero_channels(net, pruning["layer"], zeroed)
    return nets, evaluate_defense(nets, {"clean_validation": data})


def _facts(net: Net, inputs: RepairInputs, data: Dataset) -> dict[str, Any]:
    """What a result says of the settings and of the data, beside the figures."""
    config = asdict(inputs.config)
    return {
        "pseudo_labels": inputs.targets is not None,
        "recipe": config.get("tuning"),
        "keep_pruned": config.get("keep_pruned", False),
        "class_counts": class_counts({"clean_validation": inputs.data}, net.classes),
        "label_order": data.label_order,
        "input_range": str(net.input_range),
        "synthetic": bool(data.synthetic or net.attributes.get("synthetic")),
    }


def _write(base: Path, nets: dict[str, Net], record: RepairRecord, result: dict[str, Any]) -> None:
    """The files, all or none; the repaired net comes last."""
    curve = Path(f"{base}.pruning.png")
    with all_or_none():
        if "pruning" in result:
            plot_pruning_curve(curve, result["pruning"], net=base.name)
        write_json(f"{base}.json", result)
        write_pair(base, nets, record, synthetic=result["synthetic"])
    if "pruning" not in result:
        curve.unlink(missing_ok=True)  # of another method, that was here before
