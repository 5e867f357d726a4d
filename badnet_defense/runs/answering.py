"""Answers for single pictures, without TensorFlow, and accuracy over a data set, with it."""

from pathlib import Path

import numpy as np

from badnet_defense.data.input_range import UNIT, InputRange
from badnet_defense.errors import InputError
from badnet_defense.guard.pairing import check_noted_range, read_pair
from badnet_defense.guard.reading import is_guard, read_guard
from badnet_defense.guard.saved import HARD, SavedGuard
from badnet_defense.nets.loader import read_net

_SCALED = InputRange(0, 255)  # leaves pictures that are in a net's range as they are
_AT_ONCE = 32  # NumPy's convolutions copy each window: more pictures at once cost memory


def answer_pictures(pictures, net, *, root, input_range=UNIT):
    """The class of each picture, N for "poisoned".

    Args:
        pictures: paths of image files.
        net: a name (`<name>_bd_net.h5` in `root/models`), or the path of a net or a guard. A bad
            net answers together with its repair in `root/fine_pruned_models`; a repaired net
            answers alone.
        root: the project's folder.
        input_range: the net's range.

    Returns:
        A list of whole numbers 0..N.

    Raises:
        InputError: a picture or a net cannot be used, or the repair was made from another net.
    """
    from badnet_defense.data.picture import read_picture

    guard = find_guard(net, root=root)
    _check_range(guard, net, input_range)
    read = [read_picture(path, guard.net.input_shape) for path in pictures]
    answers = []
    for start in range(0, len(read), _AT_ONCE):
        inputs = input_range.scale(np.stack(read[start : start + _AT_ONCE]))
        answers.append(guard.answers(inputs))
    return np.concatenate(answers).tolist()


def find_guard(net, *, root):
    """What answers under a name or path, as a `SavedGuard`."""
    root, path = Path(root), Path(net)
    if not path.exists() and path.suffix == "":
        path = root / "models" / f"{net}_bd_net.h5"
    if path.suffix == ".keras" and path.is_file() and is_guard(path):
        return read_guard(path)
    if path.is_file() and "source_sha256" in (single := read_net(path)).attributes:
        return SavedGuard({"bad": single})
    pair = read_pair(path, folder=root / "fine_pruned_models")
    return SavedGuard({"bad": pair.bad, "repaired": pair.repaired}, **HARD)


def _check_range(guard, path, input_range):
    """Refuses a guard, or a repaired net in it, that was made for another range."""
    if guard.input_range not in (None, input_range):
        raise InputError(
            f"{path}: it was made for pixels in {guard.input_range}, but {input_range} was asked "
            f"for; give --input-range {guard.input_range}."
        )
    for one in guard.nets.values():
        check_noted_range(one, input_range)


def data_accuracy(data, model, *, input_range=UNIT):
    """Share of a data set that a net or a guard answers with its label, in [0, 1].

    Args:
        data: path of labelled pictures.
        model: path of a net, which answers alone, or of a guard.
        input_range: the net's range.
    """
    from badnet_defense.data import read_images
    from badnet_defense.measure.belonging import measured_labels
    from badnet_defense.measure.metrics import accuracy
    from badnet_defense.nets import build, predict_probabilities
    from badnet_defense.nets.predict import BATCH

    saved = Path(model).suffix == ".keras" and Path(model).is_file() and is_guard(model)
    guard = read_guard(model) if saved else SavedGuard({"bad": read_net(model)})
    shape, classes = guard.net.input_shape, guard.net.classes
    images = read_images(data, shape=shape, need_labels=True)
    built = {name: build(one) for name, one in guard.nets.items()}
    _check_range(guard, model, input_range)
    images = measured_labels(
        built["bad"], images, classes=classes, input_range=input_range, net_name=model
    )

    def predict(name, inputs):
        return predict_probabilities(built[name], inputs, input_range=_SCALED)

    size = _AT_ONCE if guard.overlays else BATCH
    answers = [
        guard.answers(input_range.scale(images.pictures[start:][:size]), predict)
        for start in range(0, len(images), size)
    ]
    return accuracy(np.concatenate(answers), images.labels)
