"""Which repaired model belongs to which suspect model: by the SHA-256 in the repair's file."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from badnet_defense.errors import InputError
from badnet_defense.io.files import file_sha256
from badnet_defense.io.repair_record import RepairRecord
from badnet_defense.nets.input_range import UNIT, InputRange
from badnet_defense.nets.input_range import agreed_range as agreed
from badnet_defense.nets.net import Net
from badnet_defense.nets.outputs import read_classifier
from badnet_defense.nets.reader import read_net

log = logging.getLogger(__name__)

FOLDER = "fine_pruned_models"


@dataclass(frozen=True)
class Pair:
    """A suspect model and its own repair.

    Attributes:
        suspect: `Net`.
        repaired: `Net`, or None where none is needed.
        pruning: the pruning that the repair's record tells, or None.
    """

    suspect: Net
    repaired: Net | None
    pruning: dict[str, Any] | None


def read_pair(
    model: str | Path,
    repaired: str | Path | None = None,
    *,
    folder: str | Path = FOLDER,
    input_range: InputRange | None = None,
    suspect: Net | None = None,
) -> Pair:
    """Reads a suspect model and its repair.

    Args:
        model: path of the suspect model.
        repaired: path of the repaired model; default: the file of the same stem in `folder`.
        folder: where repaired models are.
        input_range: the range of both; None: what the repair's file says, else [0, 1].
        suspect: what was read from `model` already; None: it is read now.

    Raises:
        InputError: one of them is missing, the repair was made from another net, or for another
            range.
    """
    path = Path(repaired) if repaired else Path(folder) / f"{Path(model).stem}.h5"
    suspect = read_classifier(model) if suspect is None else suspect
    if not path.is_file():
        raise InputError(
            f"no repaired model for {model} at {path}; create it with badnet-defense repair "
            f"{model} --clean DATA, or give its guard ({Path(model).stem}.guard.keras)."
        )
    net = read_classifier(path)
    _check_source(net, path, suspect, model)
    if (net.input_shape, net.classes) != (suspect.input_shape, suspect.classes):
        raise InputError(
            f"{path}: it maps {net.input_shape} to {net.classes} classes, but {model} maps "
            f"{suspect.input_shape} to {suspect.classes}; give the repair of this very model."
        )
    range_, record = repaired_range(net, input_range), RepairRecord.from_attributes(net.attributes)
    pruning = None if record is None else record.pruning
    return Pair(suspect.with_range(range_), net.with_range(range_), pruning)


def belongs(model: str | PathLike[str], repaired: str | PathLike[str]) -> bool:
    """True where the file `repaired` records that it was made from the file `model`."""
    if not Path(repaired).is_file():
        return False
    record = RepairRecord.from_attributes(read_net(Path(repaired)).attributes)
    return record is not None and record.source_sha256 == file_sha256(model)


def agreed_range(
    stored: InputRange | None, asked: InputRange | None, file: str | Path
) -> InputRange:
    """`nets.input_range.agreed_range` for a guard or a repair; warns where [0, 1] is assumed."""
    if stored is None and asked is None:
        log.warning("%s does not record its input range: %s is assumed", file, UNIT)
    return agreed(stored, asked, file)


def repaired_range(repaired: Net, asked: InputRange | None) -> InputRange:
    """The range of a repaired model; see `agreed_range`."""
    noted = repaired.attributes.get("input_range")
    stored = None if noted is None else InputRange.parse(noted)
    return agreed_range(stored, asked, repaired.attributes["file"])


def _check_source(net: Net, path: Path, suspect: Net, model: str | Path) -> None:
    record = RepairRecord.from_attributes(net.attributes)
    source = None if record is None else record.source_sha256
    if source is None:
        raise InputError(
            f"{path}: it does not say which model it was made from; expected the repair of {model}."
        )
    if source != suspect.attributes["file_sha256"]:
        raise InputError(
            f"{path}: it was made from another model (SHA-256 {source[:12]}..) than {model} "
            f"({suspect.attributes['file_sha256'][:12]}..); create its own with badnet-defense "
            f"repair {model}."
        )
