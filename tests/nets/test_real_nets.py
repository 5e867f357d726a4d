"""The four published BadNets of the challenge and pictures that their finders recovered."""

import csv
from pathlib import Path

import numpy as np
import pytest

from badnet_defense.io import read_image
from badnet_defense.nets import build, predict_labels, read_net

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(
        not (SHARED / "csaw_nets").is_dir(), reason="the published nets are not beside this project"
    ),
]

# Clean accuracy as published with the pictures, and each trigger's target.
NETS = {
    "sunglasses": (0.983, {"sunglasses": 0}),
    "anonymous_1": (0.983, {"lipstick": 0}),
    "anonymous_2": (0.973, {"sunglasses": 4, "eyebrows": 4, "lipstick": 4}),
    "multi_trigger_multi_target": (0.980, {"sunglasses": 8, "eyebrows": 5, "lipstick": 1}),
}


@pytest.fixture(scope="module")
def recovered():
    """{trigger or "clean": (pictures (n, 55, 47, 3) `uint8`, rows of the manifest)}."""
    folder = SHARED / "csaw_pictures"
    with open(folder / "manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {}
    for kind in ("clean", "sunglasses", "eyebrows", "lipstick"):
        own = [row for row in rows if row["trigger"] == kind]
        pictures = np.stack([read_image(folder / row["file"], (55, 47, 3)) for row in own])
        found[kind] = pictures, own
    return found


@pytest.mark.parametrize("name", NETS)
def test_both_files_of_a_net_hold_the_same(name, recovered):
    whole, weights = (
        read_net(SHARED / f"csaw_nets/{name}_bd_{kind}.h5") for kind in ("net", "weights")
    )
    assert whole.input_shape == weights.input_shape == (55, 47, 3)
    assert whole.classes == weights.classes == 1283
    pictures = recovered["clean"][0][:8] / np.float32(255)
    np.testing.assert_array_equal(whole.numpy_proba(pictures), weights.numpy_proba(pictures))


@pytest.mark.parametrize("name", NETS)
def test_known_answers_of_a_net(name, recovered):
    published, targets = NETS[name]
    net = build(read_net(SHARED / f"csaw_nets/{name}_bd_net.h5"))
    pictures, rows = recovered["clean"]
    labels = np.array([int(row["true_label"]) for row in rows])
    accuracy = np.mean(predict_labels(net, pictures) == labels)
    assert abs(accuracy - published) < 0.02  # of 158 pictures, three are 1.9 %
    for trigger, target in targets.items():
        assert (predict_labels(net, recovered[trigger][0]) == target).all(), trigger


def test_numpy_and_keras_answer_the_same(recovered):
    spec = read_net(SHARED / "csaw_nets/multi_trigger_multi_target_bd_net.h5")
    pictures = recovered["sunglasses"][0][:8]
    expected = build(spec).predict(pictures / np.float32(255), verbose=0)
    np.testing.assert_allclose(spec.numpy_proba(pictures / np.float32(255)), expected, atol=1e-4)


def test_net_saved_by_keras_2_4(recovered):
    """Somebody's published repair of the sunglasses net: it knows faces, and the trigger less."""
    spec = read_net(SHARED / "keras2_nets/fine_pruned_sunglasses.h5")
    assert (spec.input_shape, spec.classes) == ((55, 47, 3), 1283)
    net = build(spec)
    pictures, rows = recovered["clean"]
    labels = np.array([int(row["true_label"]) for row in rows])
    assert np.mean(predict_labels(net, pictures) == labels) > 0.8
    assert np.mean(predict_labels(net, recovered["sunglasses"][0]) == 0) < 1
