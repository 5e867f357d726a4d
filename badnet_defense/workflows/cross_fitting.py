"""Cross-fitting: a repair is made again on parts of the clean images, by its record."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from badnet_defense.detectors.registry import FOLDS
from badnet_defense.errors import InputError
from badnet_defense.io.dataset import Dataset
from badnet_defense.io.repair_record import RepairRecord
from badnet_defense.nets.graph import CONVOLUTIONS
from badnet_defense.nets.net import Net
from badnet_defense.nets.surgery import channel_count, channel_masks, zero_channels
from badnet_defense.repairs.recipes import Recipe
from badnet_defense.repairs.registry import REPAIRS, uses_triggers
from badnet_defense.repairs.validated_tuning import HELD_OUT, tune_with_validation

log = logging.getLogger(__name__)
FoldRepairs: TypeAlias = list[tuple[np.ndarray, np.ndarray, Net]]
"""(positions of a part, positions of the others, the repair by the others) of each part."""
Remake: TypeAlias = Callable[[Dataset, np.ndarray | None], Net]


def make_fold_repairs(
    suspect: Net, repaired: Net | None, split: Any, *, seed: int = 0
) -> FoldRepairs | None:
    """The repair made again `FOLDS` times, each on all but a part of the clean images.

    Args:
        suspect: the suspect model.
        repaired: its repair.
        split: the clean images, as `calibrate.split_clean` gives them.
        seed: of the parts.

    Returns:
        [(positions of the part, positions of the others, the `Net` of those)]; None where the
        repair cannot be made again, or learnt from none of these images.
    """
    again = None
    if len(split.tuned) and repaired is not None:
        again = _remake(suspect, repaired)
    if again is None:
        return None
    log.info("few unseen images: the repair is made %d times to set the threshold", FOLDS)
    order = np.random.default_rng((seed, 7)).permutation(len(split.data))
    fold_repairs = []
    for fold in np.array_split(order, FOLDS):
        others = np.setdiff1d(order, fold)
        targets = None if split.targets is None else split.targets[others]
        fold_repairs.append((fold, others, again(split.data.subset(others), targets)))
    return fold_repairs


def unseen_share(method: str) -> float:
    """Fraction of the clean images that may set a threshold beside a repair by them, in (0, 1].

    A repair that a scan belongs to is not made again for cross-fitting, so that only the images
    that it left untouched may.
    """
    return HELD_OUT / 2 if uses_triggers(method) else 1.0


def _remake(suspect: Net, repaired: Net) -> Remake | None:
    """A function, (images, targets) -> `Net`, that repairs as the record of a repair says.

    What was pruned is pruned again, not chosen again; None where the record does not tell enough,
    is of another version of the method, or a scan belongs to it.
    """
    record = RepairRecord.from_attributes(repaired.attributes)
    if record is None or record.seed is None or uses_triggers(record.method):
        return None
    if record.pruned_channels is not None and "tuning" in record.config:
        pruned = (*record.pruned_channels, repaired.attributes["file"])
        return _tune_pruned(suspect, record, *pruned)
    if record.method is None or record.method not in REPAIRS:
        return None
    method = REPAIRS[record.method]
    if method.version != record.method_version:
        return None
    settings = dict(record.config)
    if "tuning" in settings:
        settings["tuning"] = _recipe(settings["tuning"])
    how = {"config": method.make_config(settings), "seed": record.seed}
    return lambda data, targets: method.run(suspect, data, targets=targets, **how)[0]


def _tune_pruned(
    suspect: Net, record: RepairRecord, layer: str, channels: list[int], file: str
) -> Remake:
    """Tunes the suspect model without the channels that its repair pruned."""
    check_channels(suspect, layer, channels, file)
    pruned = zero_channels(suspect, layer, channels)
    keep = record.config.get("keep_pruned")
    settings: dict[str, Any] = {
        "recipe": _recipe(record.config["tuning"]),
        "frozen": channel_masks(suspect, layer, channels) if keep else None,
        "seed": record.seed,
    }
    return lambda data, targets: tune_with_validation(pruned, data, targets=targets, **settings)[0]


def check_channels(suspect: Net, layer: str, channels: list[int], file: str) -> None:
    """Refuses recorded channels that the suspect model does not have.

    Raises:
        InputError: it has no such layer, or fewer channels.
    """
    right = layer in suspect.layers and suspect.layers[layer].kind in CONVOLUTIONS
    if not right or max(channels, default=0) >= channel_count(suspect, layer):
        raise InputError(
            f"{file}: it records channels that the net does not have; make the repair again."
        )


def _recipe(recorded: dict[str, Any]) -> Recipe:
    try:
        return Recipe(**recorded)
    except TypeError:
        raise InputError(
            f"the repair was tuned with {', '.join(map(str, recorded))[:80]}, which this version "
            "does not know; make it again."
        ) from None
