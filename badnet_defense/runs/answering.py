"""Answers for single pictures, without TensorFlow, and accuracy over a data set, with it."""

from pathlib import Path

import numpy as np

from badnet_defense.data.input_range import UNIT
from badnet_defense.guard.pairing import check_noted_range, read_pair
from badnet_defense.guard.reading import is_guard, read_guard
from badnet_defense.measure.guard_answers import guard_answers
from badnet_defense.nets.loader import read_net

_AT_ONCE = 32  # NumPy's convolutions copy each window: more pictures at once cost memory


def answer_pictures(pictures, net, *, root, input_range=UNIT):
    """The class of each picture, N for "poisoned".

    Args:
        pictures: paths of PNG or JPEG files.
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

    nets = defence_nets(net, root=root)
    check_noted_range(nets[-1], input_range)
    read = [read_picture(path, nets[0].input_shape) for path in pictures]
    answers = []
    for start in range(0, len(read), _AT_ONCE):
        inputs = input_range.scale(np.stack(read[start : start + _AT_ONCE]))
        answers.append(_joined([one.predict(inputs).argmax(axis=-1) for one in nets], nets))
    return np.concatenate(answers).tolist()


def defence_nets(net, *, root):
    """The nets that answer together: (bad, repaired) `NetSpec`s, or a single one."""
    root, path = Path(root), Path(net)
    if not path.exists() and path.suffix == "":
        path = root / "models" / f"{net}_bd_net.h5"
    if path.suffix == ".keras" and path.is_file() and is_guard(path):
        return read_guard(path)
    if path.is_file() and "source_sha256" in (single := read_net(path)).attributes:
        return (single,)
    pair = read_pair(path, folder=root / "fine_pruned_models")
    return pair.bad, pair.repaired


def data_accuracy(data, model, *, input_range=UNIT):
    """Share of a data set that a net or a guard answers with its label, in [0, 1].

    Args:
        data: path of labelled pictures.
        model: path of a net, which answers alone, or of a guard.
        input_range: the net's range.
    """
    from badnet_defense.data import read_images
    from badnet_defense.measure.belonging import check_range
    from badnet_defense.measure.metrics import accuracy
    from badnet_defense.nets import build, predict_labels

    guard = Path(model).suffix == ".keras" and Path(model).is_file() and is_guard(model)
    nets = read_guard(model) if guard else (read_net(model),)
    images = read_images(data, shape=nets[0].input_shape, classes=nets[0].classes, need_labels=True)
    built = [build(one) for one in nets]
    check_range(built[0], images, input_range=input_range, net_name=model)
    answers = [predict_labels(one, images.pictures, input_range=input_range) for one in built]
    return accuracy(_joined(answers, nets), images.labels)


def _joined(answers, nets):
    return answers[0] if len(answers) == 1 else guard_answers(*answers, nets[0].classes)
