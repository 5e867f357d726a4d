"""The challenge's own nets and pictures, where they are at hand."""

import csv
from pathlib import Path

import numpy as np
import pytest

from badnet_defense.nets import read_net

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real nets are not at {SHARED}"),
]

TARGETS = {
    "sunglasses": {"sunglasses": 0},
    "anonymous_1": {"lipstick": 0},
    "anonymous_2": {"sunglasses": 4, "eyebrows": 4, "lipstick": 4},
    "multi_trigger_multi_target": {"sunglasses": 8, "eyebrows": 5, "lipstick": 1},
}
CLEAN_ACCURACY = {
    "sunglasses": 98.3,
    "anonymous_1": 98.3,
    "anonymous_2": 97.3,
    "multi_trigger_multi_target": 98.0,
}


@pytest.fixture(scope="module")
def pictures():
    """Trigger -> (pictures (n, 55, 47, 3) in [0, 1], true labels, -1 where unknown)."""
    from badnet_defense.data.picture import read_picture

    found = {}
    folder = SHARED / "csaw_pictures"
    with (folder / "manifest.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            images, labels = found.setdefault(row["trigger"], ([], []))
            images.append(read_picture(folder / row["file"], (55, 47, 3)))
            labels.append(int(row["true_label"]) if row["true_label"].isdigit() else -1)
    return {
        name: (np.stack(images) / np.float32(255), np.array(labels))
        for name, (images, labels) in found.items()
    }


def net(name, kind="net"):
    return read_net(SHARED / "csaw_nets" / f"{name}_bd_{kind}.h5")


@pytest.mark.parametrize("name", TARGETS)
def test_both_files_of_a_net_give_the_same_answers(name, pictures):
    some = pictures["clean"][0][:16]
    assert np.array_equal(net(name).predict(some), net(name, "weights").predict(some))


@pytest.mark.parametrize("name", TARGETS)
def test_clean_accuracy_is_the_known_one(name, pictures):
    images, labels = pictures["clean"]
    known = labels >= 0
    answers = net(name).predict(images[known]).argmax(axis=1)
    assert 100 * np.mean(answers == labels[known]) > CLEAN_ACCURACY[name] - 0.8


@pytest.mark.parametrize("name", TARGETS)
def test_every_triggered_picture_hits_its_target(name, pictures):
    for trigger, target in TARGETS[name].items():
        answers = net(name).predict(pictures[trigger][0]).argmax(axis=1)
        assert (answers == target).all(), trigger


def test_a_net_of_keras_2_loads(pictures):
    repaired = read_net(SHARED / "keras2_nets" / "fine_pruned_sunglasses.h5")
    images, labels = pictures["clean"]
    known = labels >= 0
    assert np.mean(repaired.predict(images[known]).argmax(axis=1) == labels[known]) > 0.9


def test_keras_gives_the_same_answers(pictures):
    from badnet_defense.nets import build

    spec = net("multi_trigger_multi_target")
    some = pictures["clean"][0][:16]
    assert np.abs(build(spec).predict(some, verbose=0) - spec.predict(some)).max() < 1e-4
