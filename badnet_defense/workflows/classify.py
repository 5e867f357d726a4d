"""Answers for single images, without TensorFlow, and accuracy over a data set, with it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from badnet_defense.errors import InputError, ReaderError
from badnet_defense.guards.description import HARD
from badnet_defense.guards.pairing import agreed_range, read_pair, repaired_range
from badnet_defense.guards.reading import is_guard, read_guard
from badnet_defense.guards.saved import SavedGuard
from badnet_defense.nets.input_range import UNIT, InputRange
from badnet_defense.nets.net import Net
from badnet_defense.nets.outputs import read_classifier
from badnet_defense.sandbox.limited import limited
from badnet_defense.workflows.find_repair import NoRepairError, repair_folders, require_repair

log = logging.getLogger(__name__)

_SECONDS, _PER_SECOND = 30, 10**8
"""Processor time that answers may take: at least, and multiplications in each further second."""
_SCALED = InputRange(0, 255)
"""Leaves images that are in a net's range as they are."""
_AT_ONCE = 32
"""NumPy's convolutions copy each window: more images at once cost memory."""


def classify_images(
    paths: Sequence[str | Path],
    net: str | Path,
    *,
    home: str | Path = ".",
    alone: bool = False,
    input_range: InputRange | None = None,
) -> list[int]:
    """The class of each image, N for "poisoned".

    Args:
        paths: of image files.
        net: a name (`<name>_bd_net.h5` in `home/models`), or the path of a model or a guard. A
            model answers together with its repair (`find_repair`).
        home: the folder to work in.
        alone: True lets a model answer by itself, without a guard. Nothing that a file says of
            itself does that.
        input_range: the model's range; None: what the guard or the repair records, else [0, 1].

    Raises:
        InputError: an image or a model cannot be used, or the repair was made from another model.
        NoRepairError: the model has no repair.
    """
    from badnet_defense.io.image_files import read_image

    guard = find_guard(net, home=home, alone=alone, input_range=input_range)
    images = [read_image(path, guard.net.input_shape) for path in paths]

    def answered() -> np.ndarray:
        parts = []
        for start in range(0, len(images), _AT_ONCE):
            inputs = _range(guard).scale(np.stack(images[start : start + _AT_ONCE]))
            parts.append(guard.answers(inputs))
        return np.concatenate(parts).astype(np.int64)

    multiplications, memory = guard.cost()
    seconds = _SECONDS + multiplications * len(images) // _PER_SECOND
    doing = f"{net}: answering {len(images)} images"
    answers = limited(answered, memory=memory, seconds=seconds, doing=doing)
    if answers.shape != (len(images),) or not np.isin(answers, range(guard.net.classes + 1)).all():
        raise ReaderError(f"{doing} gives no class numbers.")
    _warn_unanswered(guard, answers, net)
    labels: list[int] = answers.tolist()
    return labels


def find_guard(
    net: str | Path,
    *,
    home: str | Path = ".",
    alone: bool = False,
    input_range: InputRange | None = None,
) -> SavedGuard:
    """What answers under a name or path, with the range it is used with; see `classify_images`."""
    path = Path(net)
    if not path.exists() and path.suffix == "":
        path = Path(home) / "models" / f"{net}_bd_net.h5"
    named = path.name.endswith(".guard.keras")  # then it is one, or its reader says why not
    if path.suffix == ".keras" and path.is_file() and (named or is_guard(path)):
        return _read_guard(path, alone, input_range)
    if alone:
        log.warning(
            "%s answers alone, without a guard: an image with a trigger gets the attacker's class",
            path,
        )
        found = read_classifier(path)
        range_ = _range_of_net(found, input_range)
        if input_range is None:
            log.warning(
                "%s: pixels are scaled to %s; name another input range if it takes others",
                path,
                range_,
            )
        return SavedGuard({"suspect": found}, input_range=range_)
    pair = read_pair(path, _repair(path, home), input_range=input_range)
    assert pair.repaired is not None  # it was read
    nets = {"suspect": pair.suspect, "repaired": pair.repaired}
    return SavedGuard(nets, HARD, input_range=pair.suspect.input_range)


def _range(guard: SavedGuard) -> InputRange:
    return guard.input_range or UNIT


def _read_guard(path: str | Path, alone: bool, input_range: InputRange | None) -> SavedGuard:
    if alone:
        raise InputError(f"{path}: this is a guard; only a model answers alone.")
    guard = read_guard(path)
    return replace(guard, input_range=agreed_range(guard.input_range, input_range, path))


def _repair(path: Path, home: str | Path) -> Path:
    """The path of a model's repair."""
    own = [folder / f"{path.stem}.h5" for folder in repair_folders(path, home)]
    if path.is_file() and any(one.is_file() and path.samefile(one) for one in own):
        raise NoRepairError(
            f"{path}: a repaired net answers together with the net that it was made from; give "
            f"that net or its guard ({path.stem}.guard.keras)."
        )
    return require_repair(path, home=home)


def _range_of_net(net: Net, asked: InputRange | None) -> InputRange:
    """A net's own range, where a repair of this project records it, else the one asked for."""
    if "input_range" in net.attributes:
        return repaired_range(net, asked)
    return asked or UNIT


def data_accuracy(
    data: str | Path,
    model: str | Path,
    *,
    alone: bool = False,
    input_range: InputRange | None = None,
) -> float:
    """Fraction of a data set that a model or a guard answers with its label, in [0, 1].

    Args:
        data: path of labelled images: a `.h5` file, or a folder with a sub-folder per class.
        model: path of a model, which answers alone, or of a guard.
        alone: True refuses a guard.
        input_range: the model's range; None: what the guard or the repair records, else [0, 1].

    Raises:
        InputError: a file cannot be used, the images have no labels, or another range fits better.
    """
    from badnet_defense.evaluation.input_checks import measured_labels
    from badnet_defense.evaluation.metrics import accuracy
    from badnet_defense.io import read_images
    from badnet_defense.nets import predict_probabilities
    from badnet_defense.nets.predict import BATCH

    if Path(model).suffix == ".keras" and Path(model).is_file() and is_guard(model):
        guard = _read_guard(model, alone, input_range)
    else:
        net = read_classifier(model)
        guard = SavedGuard({"suspect": net}, input_range=_range_of_net(net, input_range))
    range_ = _range(guard)
    images = read_images(data, shape=guard.net.input_shape, need_labels=True)
    images = measured_labels(guard.net.with_range(range_), images)

    def predict(name: str, inputs: np.ndarray) -> np.ndarray:
        return predict_probabilities(guard.nets[name].model, inputs, input_range=_SCALED)

    size = _AT_ONCE if guard.overlays else BATCH
    parts = [
        guard.answers(range_.scale(images.images[start:][:size]), predict)
        for start in range(0, len(images), size)
    ]
    answers = np.concatenate(parts)
    _warn_unanswered(guard, answers, model)
    assert images.labels is not None  # they were needed
    return accuracy(answers, images.labels)


def _warn_unanswered(guard: SavedGuard, answers: np.ndarray, net: str | Path) -> None:
    """Says how many images a net that answers alone has no answer for: it says N there."""
    count = int(np.sum(answers == guard.net.classes))
    if count and not guard.rule:
        log.warning(
            "%s: %d of %d answers were not finite or hang on rounding; they are no class and "
            "count as wrong",
            net,
            count,
            len(answers),
        )
