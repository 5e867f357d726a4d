"""Which repaired net belongs to which bad net: by the SHA-256 that the repair has noted."""

import json
from dataclasses import dataclass
from pathlib import Path

from badnet_defense.data.files import file_sha256
from badnet_defense.errors import InputError
from badnet_defense.nets.loader import read_net
from badnet_defense.nets.spec import NetSpec

FOLDER = "fine_pruned_models"
MOST_STEPS = 100_000
"""Epochs or steps of a recipe that a file may note; honest ones stay far below."""
MOST = {"learning_rate": 10, "clip": 1e6, "shift": 0.5, "sharpness": 1e3}
MOST |= dict.fromkeys(("erase", "pattern", "light"), 1)
"""What its other numbers may be at most; none is below 0."""


@dataclass(frozen=True)
class Pair:
    """A bad net and its own repair.

    Attributes:
        bad: `NetSpec`.
        repaired: `NetSpec`, or None where none is needed.
        pruning: what was pruned on the way, as `Pruning.as_dict` gives it, or None.
    """

    bad: NetSpec
    repaired: NetSpec | None
    pruning: dict | None


def read_pair(model, repaired=None, *, folder=FOLDER):
    """Reads a bad net and its repair.

    Args:
        model: path of the bad net.
        repaired: path of the repaired net; default: the file of the same stem in `folder`.
        folder: where `fine_prune.py` writes.

    Raises:
        InputError: one of them is missing, or the repair was made from another net.
    """
    path = Path(repaired) if repaired else Path(folder) / f"{Path(model).stem}.h5"
    bad = read_net(model)
    if not path.is_file():
        raise InputError(f"{path}: no repair of {model} is there; make it: fine_prune.py {model}")
    net = read_net(path)
    _check_source(net, path, bad, model)
    if (net.input_shape, net.classes) != (bad.input_shape, bad.classes):
        raise InputError(
            f"{path}: it maps {net.input_shape} to {net.classes} classes, but {model} maps "
            f"{bad.input_shape} to {bad.classes}; give the repair of this very net."
        )
    return Pair(bad, net, noted_json(net, "pruning"))


def belongs(model, repaired):
    """True where the file `repaired` is there and notes that it was made from the file `model`."""
    if not Path(repaired).is_file():
        return False
    return read_net(repaired).attributes.get("source_sha256") == file_sha256(model)


def check_noted_range(repaired, input_range):
    """Refuses a repaired net (`NetSpec`) that was made for another range than `input_range`."""
    noted = repaired.attributes.get("input_range")
    if noted is not None and noted != str(input_range):
        raise InputError(
            f"{repaired.attributes['file']}: it was made for pixels in {noted}, but {input_range} "
            f"was asked for; give --input-range {noted}."
        )


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
    """The seed of the split that a repaired net (`NetSpec`) was tuned with."""
    seed = repaired.attributes.get("tuned_on_seed")
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise InputError(
            f"{repaired.attributes['file']}: its note on the seed is {str(seed)[:40]!r}; make the "
            "repair again."
        )
    return seed


def noted_steps(repaired):
    """The `Steps` that a repaired net (`NetSpec`) notes; None where it was not fine-pruned.

    Raises:
        InputError: the notes are damaged.
    """
    notes = {} if repaired is None else repaired.attributes
    if "pruning" not in notes or "recipe" not in notes:
        return None
    recipe, (layer, zeroed) = noted_recipe(repaired), noted_channels(repaired)
    return Steps(layer, zeroed, recipe, bool(notes.get("keep_pruned")), noted_seed(repaired))


def noted_channels(repaired):
    """(layer, numbers of its zeroed channels) that a repaired net (`NetSpec`) notes, or None.

    Raises:
        InputError: the note is damaged.
    """
    pruning = noted_json(repaired, "pruning")
    if pruning is None:
        return None
    try:
        layer, zeroed = pruning["layer"], pruning["order"][: pruning["removed"]]
        whole = all(isinstance(channel, int) and channel >= 0 for channel in zeroed)
        if not (isinstance(layer, str) and isinstance(zeroed, list) and whole):
            raise TypeError
    except (TypeError, KeyError):
        raise _damaged(repaired.attributes) from None
    return layer, zeroed


def noted_recipe(repaired):
    """{setting: value} of the recipe that a repaired net (`NetSpec`) notes, or None.

    Raises:
        InputError: the note is damaged.
    """
    notes = repaired.attributes
    recipe = noted_json(repaired, "recipe")
    if recipe is None:
        return None
    try:
        lengths = [recipe[name] for name in ("epochs", "least_steps", "batch_size")]
        if not all(isinstance(one, int) and 0 <= one <= MOST_STEPS for one in lengths):
            raise TypeError
        if lengths[-1] < 1 or not isinstance(recipe["decays"], bool):
            raise TypeError
        for name, most in MOST.items():
            if not 0 <= float(recipe.get(name, 0)) <= most or isinstance(recipe.get(name), str):
                raise TypeError
    except (ValueError, TypeError, KeyError, OverflowError):
        raise _damaged(notes) from None
    return recipe


def noted_json(repaired, name):
    """The object that a repaired net (`NetSpec`) notes as JSON under a name, or None.

    Raises:
        InputError: the note is damaged.
    """
    notes = repaired.attributes
    if name not in notes:
        return None
    try:
        value = json.loads(notes[name])
    except (ValueError, TypeError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _damaged(notes)
    return value


def _damaged(notes):
    return InputError(
        f"{notes['file']}: its notes on how it was made are damaged; make the repair again."
    )


def _check_source(net, path, bad, model):
    source = net.attributes.get("source_sha256")
    if not isinstance(source, str):
        raise InputError(
            f"{path}: it does not say which net it was made from; expected a net that "
            f"fine_prune.py made from {model}."
        )
    if source != bad.attributes["file_sha256"]:
        raise InputError(
            f"{path}: it was made from another net (SHA-256 {source[:12]}..) than {model} "
            f"({bad.attributes['file_sha256'][:12]}..); make its own repair: fine_prune.py {model}"
        )
