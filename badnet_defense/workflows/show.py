"""What is in a data set, and what a model and its repair answer."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from badnet_defense.errors import InputError
from badnet_defense.evaluation.input_checks import measured_labels
from badnet_defense.evaluation.metrics import wilson_interval
from badnet_defense.guards.pairing import read_pair
from badnet_defense.io import Dataset, read_images
from badnet_defense.io.files import all_or_none, check_writable
from badnet_defense.io.records import digests_read, write_json
from badnet_defense.io.trigger_labels import write_trigger_labels
from badnet_defense.nets.input_range import InputRange
from badnet_defense.nets.net import Net
from badnet_defense.nets.outputs import read_classifier
from badnet_defense.report.show import write_show_page

log = logging.getLogger(__name__)

FOLDER_SHAPE = (96, 96, 3)
"""Size at which the images of a folder are read where no model names another."""
MAX_LISTED = 100
"""Labels, duplicates and differing images that a result lists at most."""
TRIGGER_LABELS = "trigger_labels.npy"
"""Ending of the file that says on which images model and repair differ."""


@dataclass(frozen=True)
class Answers:
    """What a model and its repair answer on every image.

    Attributes:
        net: the suspect model.
        suspect: (n,) its predicted labels.
        repaired: (n,) those of its repair, or None.
    """

    net: Net
    suspect: np.ndarray
    repaired: np.ndarray | None


def show_file(
    path: str | Path,
    model: str | Path | None = None,
    *,
    out: str | Path,
    repaired: str | Path | None = None,
    input_range: InputRange | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Describes a data set and writes `<out>.html` and `<out>.json`.

    Args:
        path: a `.h5` file, a folder, or an image.
        model: path of a model whose answers are shown, or None.
        out: path of what is written, without endings.
        repaired: path of the model's repair; then `<out>.trigger_labels.npy` is written too: True
            for each image on which both differ, as `evaluate_files` takes it.
        input_range: the model's range; default: what its file records, else [0, 1].
        command: what was called, for the page.

    Returns:
        The result as it stands in the JSON file.

    Raises:
        InputError: a file cannot be used, or model and repair don't belong together.
    """
    endings = (".html", ".json", f".{TRIGGER_LABELS}")
    inputs = tuple(one for one in (path, model, repaired) if one is not None)
    check_writable(*(f"{out}{ending}" for ending in endings), inputs=inputs)
    net = None if model is None else read_classifier(model, input_range)
    shape = FOLDER_SHAPE if Path(path).suffix.lower() not in (".h5", ".hdf5") else None
    data = read_images(path, shape=net.input_shape if net else shape, labels_matter=False)
    result = describe_data(data, None if net is None else net.classes)
    digest = digests_read(net, data)
    result["data"] = {"file": str(path), "sha256": digest(path)}
    answers = None
    if net is not None and model is not None:
        answers = _answers(net, data, model, repaired, input_range)
        result["model"] = {"file": str(model), "sha256": digest(model), "classes": net.classes}
        result["model"] |= _model_figures(answers, data)
    differ = None
    if answers is not None and answers.repaired is not None:
        differ = answers.suspect != answers.repaired
        result["repaired"] = _repaired_figures(answers, data, differ)
        result["repaired"] |= {"file": str(repaired), "trigger_labels": f"{out}.{TRIGGER_LABELS}"}
    with all_or_none():
        if differ is not None:
            write_trigger_labels(f"{out}.{TRIGGER_LABELS}", differ)
        write_show_page(f"{out}.html", result, data, command=command)
        write_json(f"{out}.json", result)
    return result


def describe_data(data: Dataset, classes: int | None = None) -> dict[str, Any]:
    """A data set in numbers: shape, range, images per class, absent classes, duplicates.

    Args:
        data: the images.
        classes: N of the model that they are for; None: 0 to the largest label.

    Returns:
        A dict of plain values.

    Examples:
        >>> images = np.zeros((3, 2, 2, 1), np.uint8)
        >>> images[2] = 9
        >>> result = describe_data(Dataset(images, [0, 0, 2]))
        >>> result["labels"]["counts"], result["labels"]["missing"], result["duplicates"]["groups"]
        ({'0': 2, '2': 1}, [1], [[0, 1]])
    """
    images = data.images
    result: dict[str, Any] = {
        "schema": 1,
        "images": len(data),
        "shape": list(images.shape[1:]),
        "dtype": str(images.dtype),
        "range": [float(images.min()), float(images.max())],
        "synthetic": data.synthetic,
        "labels": None,
        "duplicates": _duplicates(data),
    }
    if data.labels is not None:
        values, counts = np.unique(data.labels, return_counts=True)
        expected = np.arange(values.max() + 1 if classes is None else classes)
        result["labels"] = {
            "counts": {str(value): int(count) for value, count in zip(values, counts, strict=True)},
            "missing": np.setdiff1d(expected, values).tolist(),
            "outside": np.setdiff1d(values, expected).tolist(),
            "outside_images": int(np.isin(data.labels, expected, invert=True).sum()),
        }
    return result


def _duplicates(data: Dataset) -> dict[str, Any]:
    """Images that occur more than once, and those of them with different labels."""
    places = defaultdict(list)
    for place, image in enumerate(data.images):
        digest = hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()
        places[digest].append(place)
    groups = [group for group in places.values() if len(group) > 1]
    labels = data.labels
    contradicting = []
    if labels is not None:
        contradicting = [group for group in groups if len(set(labels[group].tolist())) > 1]
    return {
        "images": sum(len(group) - 1 for group in groups),
        "groups": groups[:MAX_LISTED],
        "contradicting": contradicting[:MAX_LISTED],
    }


def _answers(
    net: Net,
    data: Dataset,
    model: str | Path,
    repaired: str | Path | None,
    input_range: InputRange | None,
) -> Answers:
    suspect = net.predict(data.images)
    if repaired is None:
        return Answers(net, suspect, None)
    pair = read_pair(model, repaired, suspect=net)
    repair = pair.repaired
    assert repair is not None  # it was named
    repair = repair if input_range is None else repair.with_range(input_range)
    return Answers(net, suspect, repair.predict(data.images))


def _model_figures(answers: Answers, data: Dataset) -> dict[str, Any]:
    """The model's accuracy, its most frequent answers, and the images it answers otherwise."""
    values, counts = np.unique(answers.suspect, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MAX_LISTED]
    figures: dict[str, Any] = {
        "answers": {str(int(values[place])): int(counts[place]) for place in order},
        "note": None,
    }
    if data.labels is None:
        return figures
    labels: np.ndarray = data.labels
    try:
        measured = measured_labels(answers.net, data).labels
        labels = labels if measured is None else measured
    except InputError as error:  # another range fits better, or the labels number no classes
        figures["note"] = str(error)
        log.warning("%s", error)
    wrong = np.flatnonzero(answers.suspect != labels)
    right = len(labels) - len(wrong)
    figures |= {
        "accuracy": right / len(labels),
        "accuracy_interval": list(wilson_interval(right, len(labels))),
        "wrong": [_entry(place, labels, answers) for place in wrong[:MAX_LISTED]],
        "wrong_images": len(wrong),
    }
    return figures


def _repaired_figures(answers: Answers, data: Dataset, differ: np.ndarray) -> dict[str, Any]:
    """On how many images model and repair differ, and the first of them."""
    places = np.flatnonzero(differ)
    return {
        "differ": len(places),
        "fraction": len(places) / len(differ),
        "fraction_interval": list(wilson_interval(len(places), len(differ))),
        "listed": [_entry(place, data.labels, answers) for place in places[:MAX_LISTED]],
    }


def _entry(place: int, labels: np.ndarray | None, answers: Answers) -> dict[str, Any]:
    """What is told of one image."""
    entry = {"image": int(place), "label": None if labels is None else int(labels[place])}
    entry["suspect"] = int(answers.suspect[place])
    if answers.repaired is not None:
        entry["repaired"] = int(answers.repaired[place])
    return entry
