"""Answers for single images, without TensorFlow, and accuracy over a data set, with it."""

import logging
from pathlib import Path

import numpy as np

from badnet_defense.errors import InputError, ReaderError
from badnet_defense.guards.pairing import agreed_range, read_pair, repaired_range
from badnet_defense.guards.reading import is_guard, read_guard
from badnet_defense.guards.saved import HARD, SavedGuard
from badnet_defense.nets.input_range import InputRange
from badnet_defense.nets.outputs import read_classifier
from badnet_defense.sandbox.limited import limited
from badnet_defense.workflows.find_repair import repair_folders, require_repair

log = logging.getLogger(__name__)

_SECONDS, _PER_SECOND = 30, 10**8
"""Processor time that answers may take: at least, and multiplications in each further second."""

_SCALED = InputRange(0, 255)  # leaves images that are in a net's range as they are
_AT_ONCE = 32  # NumPy's convolutions copy each window: more images at once cost memory
_ARTICLES = {"folder": "a folder", "HDF5 file": "an HDF5 file", ".keras file": "a .keras file"}
_HDF5, _ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"


def asks_for_accuracy(inputs, net):
    """True where `eval.py` was given data and a model, False where it was given images.

    Args:
        inputs: the paths on its command line.
        net: what `--net` named, or None.

    Raises:
        InputError: it was given neither.
    """
    kinds = [_kind(path) for path in inputs]
    if set(kinds) == {"image"}:
        return False
    data = len(inputs) == 2 and kinds[0] in ("folder", "HDF5 file") and kinds[1] != "folder"
    if data and net is None and kinds[1] != "image":
        return True
    place = next(place for place, kind in enumerate(kinds) if kind != "image")
    told = f"{inputs[place]} is {_ARTICLES[kinds[place]]}"
    if data and net is None:
        told = f"{inputs[1]} is no model (.h5 or .keras)"
    elif kinds[0] == "folder" and len(inputs) == 1:
        told = f"{inputs[0]} is a folder, and no model came behind it"
    elif kinds[-1] == "folder":
        told = f"{inputs[-1]} is a folder of images and stands last"
    raise InputError(
        f"{told}; expected DATA and MODEL, in this order and without --net (eval.py images/ "
        "net.h5), or images alone (eval.py image.png --net net.h5)."
    )


def is_data_set(path):
    """True where a path is a folder or an HDF5 file, rather than an image."""
    return _kind(path) in ("folder", "HDF5 file")


def _kind(path):
    """What a path is at first sight: an image where it is nothing else."""
    path = Path(path)
    if path.is_dir():
        return "folder"
    begins = b""
    if path.is_file():
        try:
            with open(path, "rb") as file:
                begins = file.read(len(_HDF5))
        except OSError:
            return "image"  # its reader says why it cannot be read
    elif path.suffix in (".h5", ".hdf5"):
        begins = _HDF5
    elif path.suffix == ".keras":
        begins = _ZIP
    return {_HDF5: "HDF5 file", _ZIP: ".keras file"}.get(
        begins if begins == _HDF5 else begins[: len(_ZIP)], "image"
    )


def classify_images(pictures, net, *, root, alone=False, input_range=None):
    """The class of each image, N for "poisoned".

    Args:
        pictures: paths of image files.
        net: a name (`<name>_bd_net.h5` in `root/models`), or the path of a net or a guard. A net
            answers together with its repair (`find_repair`).
        root: the project's folder.
        alone: True lets a net answer by itself, without a guard. Nothing that a file says of itself
            does that.
        input_range: the net's range; None: what the guard or the repair holds, else [0, 1].

    Returns:
        A list of whole numbers 0..N.

    Raises:
        InputError: an image or a net cannot be used, or the repair was made from another net.
    """
    from badnet_defense.io.image_files import read_image

    guard, input_range = find_guard(net, root=root, alone=alone, input_range=input_range)
    read = [read_image(path, guard.net.input_shape) for path in pictures]

    def answered():
        parts = []
        for start in range(0, len(read), _AT_ONCE):
            inputs = input_range.scale(np.stack(read[start : start + _AT_ONCE]))
            parts.append(guard.answers(inputs))
        return np.concatenate(parts).astype(np.int64)

    multiplications, memory = guard.cost()
    seconds = _SECONDS + multiplications * len(read) // _PER_SECOND
    doing = f"{net}: answering {len(read)} images"
    answers = limited(answered, memory=memory, seconds=seconds, doing=doing)
    if answers.shape != (len(read),) or not np.isin(answers, range(guard.net.classes + 1)).all():
        raise ReaderError(f"{doing} gives no class numbers.")
    _tell_unanswered(guard, answers, net)
    return answers.tolist()


def find_guard(net, *, root, alone=False, input_range=None):
    """(what answers under a name or path, as a `SavedGuard`; the `InputRange` it is used with)."""
    root, path = Path(root), Path(net)
    if not path.exists() and path.suffix == "":
        path = root / "models" / f"{net}_bd_net.h5"
    named = path.name.endswith(".guard.keras")  # then it is one, or its reader says why not
    if path.suffix == ".keras" and path.is_file() and (named or is_guard(path)):
        _check_alone(alone, path)
        guard = read_guard(path)
        return guard, agreed_range(guard.input_range, input_range, path)
    if alone:
        log.warning(
            "%s answers alone, without a guard: an image with a trigger gets the attacker's class",
            path,
        )
        spec = read_classifier(path)
        range_ = _range_of_net(spec, input_range)
        if input_range is None:
            log.warning(
                "%s: pixels are given in %s; say --input-range if it takes others", path, range_
            )
        return SavedGuard({"bad": spec}), range_
    pair = _pair(path, root)
    guard = SavedGuard({"bad": pair.suspect, "repaired": pair.repaired}, **HARD)
    return guard, repaired_range(pair.repaired, input_range)


def _check_alone(alone, guard):
    if alone:
        raise InputError(f"{guard}: this is a guard, which --alone has no use for; leave it out.")


def _pair(path, root):
    """A net and its repair; the refusal says how else the net may be asked."""
    own = [folder / f"{path.stem}.h5" for folder in repair_folders(path, root)]
    if path.is_file() and any(one.is_file() and path.samefile(one) for one in own):
        raise InputError(
            f"{path}: a repaired net answers together with the net that it was made from; give "
            f"that net or its guard ({path.stem}.guard.keras), or ask this one by itself with "
            "--alone."
        )
    try:
        repaired = require_repair(path, home=root)
    except InputError as error:
        if not path.is_file():
            raise
        told = str(error).rstrip(".")
        raise InputError(f"{told}; or ask the model by itself, without a guard: --alone.") from None
    return read_pair(path, repaired)


def _range_of_net(spec, asked):
    """A net's own range, where a repair of this project notes it, else the one asked for."""
    if "input_range" in spec.attributes:
        return repaired_range(spec, asked)
    return asked or InputRange()


def data_accuracy(data, model, *, alone=False, input_range=None):
    """Share of a data set that a net or a guard answers with its label, in [0, 1].

    Args:
        data: path of labelled images: a `.h5` file, or a folder with a sub-folder for each class.
        model: path of a net, which answers alone, or of a guard.
        alone: True refuses a guard.
        input_range: the net's range; None: what the guard or the repair holds, else [0, 1].
    """
    from badnet_defense.evaluation.input_checks import measured_labels
    from badnet_defense.evaluation.metrics import accuracy
    from badnet_defense.io import read_images
    from badnet_defense.nets import build, predict_probabilities
    from badnet_defense.nets.predict import BATCH

    if Path(model).suffix == ".keras" and Path(model).is_file() and is_guard(model):
        _check_alone(alone, model)
        guard = read_guard(model)
        input_range = agreed_range(guard.input_range, input_range, model)
    else:
        guard = SavedGuard({"bad": read_classifier(model)})
        input_range = _range_of_net(guard.net, input_range)
    images = read_images(data, shape=guard.net.input_shape, need_labels=True)
    built = {name: build(one) for name, one in guard.nets.items()}
    images = measured_labels(guard.net.with_range(input_range), images)

    def predict(name, inputs):
        return predict_probabilities(built[name], inputs, input_range=_SCALED)

    size = _AT_ONCE if guard.overlays else BATCH
    answers = [
        guard.answers(input_range.scale(images.images[start:][:size]), predict)
        for start in range(0, len(images), size)
    ]
    answers = np.concatenate(answers)
    _tell_unanswered(guard, answers, model)
    return accuracy(answers, images.labels)


def _tell_unanswered(guard, answers, net):
    """Says how many images a net that answers alone has no answer for: it says N there."""
    count = int(np.sum(answers == guard.net.classes))
    if count and not guard.measures:
        log.warning(
            "%s: %d of %d answers were not finite or hang on rounding; they are no class and "
            "count as wrong",
            net,
            count,
            len(answers),
        )
