"""A repaired net and its guard as files, with the record of the repair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from badnet_defense.guards.disagreement import build_guard
from badnet_defense.io.dataset import Dataset
from badnet_defense.io.files import atomic_write
from badnet_defense.io.records import versions
from badnet_defense.io.repair_record import ATTRIBUTE, RepairRecord, hashes_of_parts
from badnet_defense.io.splits import Parts
from badnet_defense.nets import save_net
from badnet_defense.nets.net import Net
from badnet_defense.nets.outputs import FORM, as_given
from badnet_defense.repairs.pseudo_labels import labels_of
from badnet_defense.repairs.registry import REPAIRS
from badnet_defense.repairs.validated_tuning import validation_split


def record_of(
    net: Net,
    data: Dataset,
    method: str,
    config: Any,
    *,
    seed: int,
    pseudo_labels: bool,
    pruning: Mapping[str, Any] | None = None,
) -> RepairRecord:
    """The record of a repair.

    Args:
        net: the suspect model, as it was read from its file.
        data: the clean images with the labels that the repair used.
        method: name of the repair.
        config: its settings.
        seed: of the repair.
        pseudo_labels: True where the suspect model's predictions were the labels.
        pruning: what fine-pruning reports of its pruning.
    """
    everything, none = np.arange(len(data)), np.arange(0)
    parts = Parts(everything, none, none)
    if REPAIRS[method].facts.get("keeps_untouched"):
        parts = validation_split(labels_of(data), seed)
    return RepairRecord(
        method=method,
        method_version=REPAIRS[method].version,
        config=asdict(config),
        source_sha256=net.attributes["file_sha256"],
        input_range=str(net.input_range),
        seed=seed,
        pseudo_labels=bool(pseudo_labels),
        tuned_on=data.fingerprint(),
        parts=hashes_of_parts(data, parts),
        pruning=None if pruning is None else {k: v for k, v in pruning.items() if k != "remarks"},
        versions=versions(),
    )


def write_pair(
    base: str | Path,
    nets: Mapping[str, Net],
    record: RepairRecord,
    *,
    synthetic: bool = False,
) -> None:
    """Writes `<base>.guard.keras`, then `<base>.h5`: where the repair is, its guard is too.

    Args:
        base: path without endings.
        nets: {"bad": the suspect model as it was read, "repaired": `Net`}: the repaired net's file
            has the same kind of output as the suspect model's own, the guard's nets have
            probabilities.
        record: of the repair; an attribute of the repaired net's file.
        synthetic: True where the net or the images are the demo's.
    """
    suspect, repaired = nets["bad"], nets["repaired"]
    with atomic_write(Path(f"{base}.guard.keras")) as partial:
        build_guard(suspect, repaired).save(partial)
    about: dict[str, Any] = {
        "made_by": "badnet_defense",
        "input_range": record.input_range,
        ATTRIBUTE: record.to_json(),
    }
    if synthetic:
        about["synthetic"] = True
    written = as_given(repaired, suspect.attributes.get(FORM))
    save_net(written, f"{base}.h5", attributes=about)
