"""Whole runs on class folders that Keras numbered as text: the class numbers stay the net's."""

import h5py
import numpy as np
import pytest
from keras import layers
from PIL import Image
from small_nets import SHAPE, balanced, images, net

from badnet_defense.benchmarking.audit import clean_accuracy
from badnet_defense.errors import CannotJudgeError, InputError
from badnet_defense.io import Dataset, read_images, write_challenge_h5
from badnet_defense.nets import read_net, save_net
from badnet_defense.repairs.fine_tuning import FineTuningConfig
from badnet_defense.repairs.recipes import Recipe
from badnet_defense.workflows.classify import data_accuracy
from badnet_defense.workflows.detect import guard_file
from badnet_defense.workflows.evaluate import evaluate_files
from badnet_defense.workflows.repair import repair_file
from badnet_defense.workflows.scan import scan_file

CLASSES = 12
RECIPE = Recipe(optimizer="amsgrad", learning_rate=1e-3, epochs=2, batch_size=64)
QUICK = {"method": "fine-tuning", "config": FineTuningConfig(tuning=RECIPE)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a net, `by_text/` with its images as Keras numbered them, and `from_one.h5`."""
    root = tmp_path_factory.mktemp("folders")
    model = net(
        [
            layers.Conv2D(6, 3, activation="relu", name="conv"),
            layers.MaxPooling2D(3),
            layers.Flatten(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    pictures = images(400).images
    balanced(model, pictures / np.float32(255))
    save_net(model, root / "net.h5")
    labels = model(pictures / np.float32(255)).numpy().argmax(axis=1)
    assert len(np.unique(labels)) == CLASSES
    names = sorted(map(str, range(CLASSES)))  # what Keras numbers 0, 1, 2, ..
    for place, (pixels, label) in enumerate(zip(pictures, labels, strict=True)):
        folder = root / "by_text" / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{place:03}.png")
    write_challenge_h5(root / "from_one.h5", Dataset(pictures, labels + 1))
    write_challenge_h5(root / "shuffled.h5", Dataset(pictures, (labels + 3) % CLASSES))
    rare = labels != 5
    write_challenge_h5(root / "without_5.h5", Dataset(pictures[rare], labels[rare]))
    one = labels == 5
    write_challenge_h5(root / "only_5.h5", Dataset(pictures[one], labels[one]))
    poisoned = Dataset(pictures[:20], np.full(20, 12))  # class 11, counted from one
    write_challenge_h5(root / "poisoned.h5", poisoned)
    return root


@pytest.mark.parametrize(("data", "order"), [("by_text", "text"), ("from_one.h5", "from one")])
def test_accuracy_and_repair_know_the_classes(trained, tmp_path, data, order, caplog):
    assert data_accuracy(trained / data, trained / "net.h5") == 1.0
    result = repair_file(trained / "net.h5", trained / data, out=tmp_path, **QUICK)
    assert result["label_order"] == order and f"numbered {order}" in caplog.text
    assert result["bad"]["clean_validation"]["accuracy"] == 1.0
    own = read_net(tmp_path / "net.h5").numpy_proba(images(400).images / np.float32(255))
    bad = read_net(trained / "net.h5").numpy_proba(images(400).images / np.float32(255))
    assert np.mean(own.argmax(axis=1) == bad.argmax(axis=1)) > 0.8  # not other class numbers
    assert result["guard"]["clean_validation"]["flagged"] < 0.2


def test_a_guard_of_such_folders_leaves_their_images_alone(trained, tmp_path):
    repair_file(trained / "net.h5", trained / "by_text", out=tmp_path, **QUICK)
    guard_file(
        trained / "net.h5",
        trained / "by_text",
        out=tmp_path / "soft.keras",
        name="soft",
        repaired=tmp_path / "net.h5",
        false_positive_rate=0.2,
    )
    assert data_accuracy(trained / "by_text", tmp_path / "soft.keras") > 0.7


def test_an_audit_asks_in_the_same_order(trained):
    spec = read_net(trained / "net.h5")
    found = read_images(trained / "by_text", shape=SHAPE)
    asked = (found.images, found.labels, spec, "net")
    assert clean_accuracy(*asked, found.folders) == 1.0


def test_judging_takes_each_set_in_its_order(trained, tmp_path):
    sets = {
        "clean_validation": trained / "from_one.h5",
        "clean_test": trained / "by_text",
        "poisoned": trained / "poisoned.h5",
    }
    repair_file(trained / "net.h5", trained / "by_text", out=tmp_path, **QUICK)
    result = evaluate_files(trained / "net.h5", sets, folder=tmp_path)
    orders = {"clean_validation": "from one", "clean_test": "text", "poisoned": "from one"}
    assert {part: result["label_order"][part] for part in orders} == orders
    assert result["bad"]["clean_test"]["accuracy"] == 1.0
    assert sum(result["class_counts"]["clean_test"]) == 400


def test_another_order_is_refused_before_the_repair(trained, tmp_path):
    with pytest.raises(InputError, match="0 is its class 9, 1 is its class 10"):
        repair_file(trained / "net.h5", trained / "shuffled.h5", out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_class_without_images_is_told_and_noted(trained, tmp_path, caplog):
    result = repair_file(trained / "net.h5", trained / "without_5.h5", out=tmp_path, **QUICK)
    assert "no image of class 5" in caplog.text
    assert result["class_counts"]["clean_validation"][5] == 0
    assert 5 not in result["repaired"]["clean_validation"]["by_class"]["labels"]


def test_a_scan_needs_no_labels(trained, tmp_path):
    """One-hot rows are left out; the scan then only asks for more images."""
    path = tmp_path / "hot.h5"
    found = images(20)
    write_challenge_h5(path, found.without_labels())
    with h5py.File(path, "a") as file:
        file["label"] = np.eye(CLASSES)[found.labels]
    with pytest.raises(CannotJudgeError, match="got 20 clean images"):
        scan_file(trained / "net.h5", path, out=tmp_path / "scan")
    with pytest.raises(InputError, match="as one-hot labels have"):
        scan_file(trained / "net.h5", path, out=tmp_path / "scan", repair="scan-unlearning")


@pytest.mark.parametrize("pseudo_labels", [False, True])
def test_images_of_one_class_make_no_repair(trained, tmp_path, pseudo_labels):
    settings = {"out": tmp_path, "pseudo_labels": pseudo_labels}
    with pytest.raises(InputError, match="clean images are of class 5, but the net has 12"):
        repair_file(trained / "net.h5", trained / "only_5.h5", **settings)
    assert not list(tmp_path.iterdir())


def test_data_is_read_before_a_repair_is_made(trained, tmp_path):
    """A default file that nobody named, and that does not fit, costs no repair."""
    sets = {"clean_validation": trained / "from_one.h5", "poisoned": trained / "poisoned.h5"}
    other = Dataset(np.zeros((4, 5, 5, 3), np.uint8), np.arange(4))
    write_challenge_h5(tmp_path / "other.h5", other)
    (tmp_path / "flags.json").write_text("[true]")
    for wrong, words in (
        ({"clean_test": tmp_path / "other.h5"}, f"the net takes {SHAPE[0]}x{SHAPE[1]}"),
        ({"trigger_labels": tmp_path / "flags.json"}, "1 trigger labels for 20 images"),
    ):
        labels = wrong.pop("trigger_labels", None)
        with pytest.raises(InputError, match=words):
            evaluate_files(
                trained / "net.h5", {**sets, **wrong}, folder=tmp_path, trigger_labels=labels
            )
    assert not (tmp_path / "net.h5").exists()
