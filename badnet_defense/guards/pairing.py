"""Which repaired model belongs to which suspect model: by the SHA-256 in the repair's file."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from badnet_defense.errors import InputError
from badnet_defense.io.files import file_sha256
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
        pruning: what was pruned on the way, as `Pruning.as_dict` gives it, or None.
    """

    suspect: Net
    repaired: Net | None
    pruning: dict | None


def read_pair(model, repaired=None, *, folder=FOLDER, input_range=None):
    """Reads a suspect model and its repair.

    Args:
        model: path of the suspect model.
        repaired: path of the repaired net; default: the file of the same stem in `folder`.
        folder: where repaired models are.
        input_range: the range of both; None: what the repair's file says, else [0, 1].

    Raises:
        InputError: one of them is missing, the repair was made from another net, or for another
            range.
    """
    path = Path(repaired) if repaired else Path(folder) / f"{Path(model).stem}.h5"
    suspect = read_classifier(model)
    if not path.is_file():
        raise InputError(
            f"{path}: no repair of {model} is there; make it: fine_prune.py {model} "
            f"--clean DATA, or give the guard that you have ({Path(model).stem}.guard.keras)"
        )
    net = read_classifier(path)
    _check_source(net, path, suspect, model)
    if (net.input_shape, net.classes) != (suspect.input_shape, suspect.classes):
        raise InputError(
            f"{path}: it maps {net.input_shape} to {net.classes} classes, but {model} maps "
            f"{suspect.input_shape} to {suspect.classes}; give the repair of this very net."
        )
    range_ = repaired_range(net, input_range)
    return Pair(suspect.with_range(range_), net.with_range(range_), noted_json(net, "pruning"))


def belongs(model, repaired):
    """True where the file `repaired` is there and notes that it was made from the file `model`."""
    if not Path(repaired).is_file():
        return False
    return read_net(repaired).attributes.get("source_sha256") == file_sha256(model)


def agreed_range(stored, asked, file):
    """`nets.input_range.agreed_range` for a guard or a repair; warns where [0, 1] is assumed."""
    if stored is None and asked is None:
        log.warning("%s does not record its input range: %s is assumed", file, UNIT)
    return agreed(stored, asked, file)


def repaired_range(repaired, asked):
    """The range of a repaired net (`Net`); see `agreed_range`."""
    noted = repaired.attributes.get("input_range")
    stored = None if noted is None else InputRange.parse(noted)
    return agreed_range(stored, asked, repaired.attributes["file"])


@dataclass(frozen=True)
class Steps:
    """How a repair was made, so that it can be made again on a part of the pictures.

    Attributes:
        layer, zeroed: whose channels were zeroed, and which.
        recipe: {setting: value} of its tuning.
        frozen: True where the zeroed channels were held at zero.
        seed: of its tuning and of the split of its pictures.
    """

    layer: str
    zeroed: list
    recipe: dict
    frozen: bool
    seed: int


def noted_seed(repaired):
    """The seed of the split that a repaired net (`Net`) was tuned with."""
    if "tuned_on_seed" not in repaired.attributes:
        raise InputError(
            f"{repaired.attributes['file']}: it does not note the seed that it was tuned with; "
            "make the repair again."
        )
    return repaired.attributes["tuned_on_seed"]


def noted_steps(repaired):
    """The `Steps` that a repaired net (`Net`) notes; None where it was not fine-pruned."""
    notes = {} if repaired is None else repaired.attributes
    if "pruning" not in notes or "recipe" not in notes:
        return None
    recipe, (layer, zeroed) = noted_json(repaired, "recipe"), noted_channels(repaired)
    return Steps(layer, zeroed, recipe, notes.get("keep_pruned", False), noted_seed(repaired))


def noted_channels(repaired):
    """(layer, numbers of its zeroed channels) that a repaired net (`Net`) notes, or None."""
    pruning = noted_json(repaired, "pruning")
    if pruning is None:
        return None
    return pruning["layer"], pruning["order"][: pruning["removed"]]


def noted_json(repaired, name):
    """The object that a repaired net (`Net`) notes under a name, or None.

    `nets.file_attributes` has checked it when the file was read.
    """
    return json.loads(repaired.attributes[name]) if name in repaired.attributes else None


def _check_source(net, path, suspect, model):
    source = net.attributes.get("source_sha256")
    if not isinstance(source, str):
        raise InputError(
            f"{path}: it does not say which net it was made from; expected a net that "
            f"fine_prune.py made from {model}."
        )
    if source != suspect.attributes["file_sha256"]:
        raise InputError(
            f"{path}: it was made from another model (SHA-256 {source[:12]}..) than {model} "
            f"({suspect.attributes['file_sha256'][:12]}..); make its own repair: "
            f"fine_prune.py {model}"
        )
