"""What a data set holds, by hand, and what a model and its repair answer on it."""

import json

import numpy as np
import pytest
from PIL import Image
from small_nets import CLASSES
from small_project import known, small_challenge_net

from badnet_defense.errors import InputError
from badnet_defense.io import Dataset, file_sha256, read_trigger_labels, write_challenge_h5
from badnet_defense.nets import save_net
from badnet_defense.report.show import show_lines
from badnet_defense.workflows.show import describe_data, show_file


def images(*values):
    """Images of 2 x 3 pixels, each of one value."""
    return np.stack([np.full((2, 3, 3), value, np.uint8) for value in values])


def test_a_data_set_by_hand():
    data = Dataset(images(5, 7, 5, 200, 5), [0, 3, 0, 9, 1])
    found = describe_data(data, classes=5)
    assert (found["images"], found["shape"], found["range"]) == (5, [2, 3, 3], [5.0, 200.0])
    assert found["labels"]["counts"] == {"0": 2, "1": 1, "3": 1, "9": 1}
    assert found["labels"]["missing"] == [2, 4]
    assert (found["labels"]["outside"], found["labels"]["outside_images"]) == ([9], 1)
    assert found["duplicates"] == {
        "images": 2,
        "groups": [[0, 2, 4]],
        "contradicting": [[0, 2, 4]],
    }
    lines = show_lines(found)
    assert "5 images of 2 x 3 pixels, 3 channels, uint8, values 5 to 200" in lines
    assert "1 images with labels outside the model's classes: 9" in lines
    assert "2 images are copies of another" in lines
    assert "no image of 2 classes: 2, 4" in lines


def test_without_labels_and_without_copies():
    found = describe_data(Dataset(images(1, 2)))
    assert found["labels"] is None and found["duplicates"]["images"] == 0
    assert show_lines(found)[1:] == ["no labels"]


@pytest.fixture
def files(tmp_path):
    """A model, its repair (another net that says so), and 40 images that the model knows."""
    model = small_challenge_net(seed=0)
    save_net(model, tmp_path / "net.h5")
    notes = {"source_sha256": file_sha256(tmp_path / "net.h5"), "input_range": "0,1"}
    save_net(small_challenge_net(seed=3), tmp_path / "repaired.h5", attributes=notes)
    data = known(model, 40, seed=2)
    labels = data.labels.copy()
    labels[:4] = (labels[:4] + 1) % CLASSES
    write_challenge_h5(tmp_path / "data.h5", Dataset(data.images, labels))
    return tmp_path, data, model


def test_answers_differ_from_labels_where_these_were_changed(files):
    folder, _, _ = files
    found = show_file(folder / "data.h5", folder / "net.h5", out=folder / "shown")
    model = found["model"]
    assert model["accuracy"] == 0.9 and model["wrong_images"] == 4
    assert [one["image"] for one in model["wrong"]] == [0, 1, 2, 3]
    assert all(one["label"] != one["suspect"] for one in model["wrong"])
    assert "repaired" not in found and not (folder / "shown.trigger_labels.npy").exists()
    assert json.loads((folder / "shown.json").read_text()) == found
    page = (folder / "shown.html").read_text()
    assert page.count('alt="image ') >= 4 + 8 and "Where the model's answer" in page


def test_where_model_and_repair_differ_is_written_as_trigger_labels(files):
    folder, data, model = files
    found = show_file(
        folder / "data.h5", folder / "net.h5", repaired=folder / "repaired.h5", out=folder / "shown"
    )
    other = small_challenge_net(seed=3)
    inputs = data.images / np.float32(255)
    suspect, repaired = (
        one(inputs, training=False).numpy().argmax(axis=1) for one in (model, other)
    )
    differ = read_trigger_labels(folder / "shown.trigger_labels.npy", 40)
    np.testing.assert_array_equal(differ, suspect != repaired)
    assert 0 < differ.sum() == found["repaired"]["differ"] < 40
    assert found["repaired"]["listed"][0]["image"] == int(np.flatnonzero(differ)[0])


def test_a_folder_of_images_without_a_model(tmp_path):
    for label in ("0", "1"):
        (tmp_path / "data" / label).mkdir(parents=True)
        Image.fromarray(images(int(label))[0]).save(tmp_path / "data" / label / "a.png")
    found = show_file(tmp_path / "data", out=tmp_path / "shown")
    assert found["images"] == 2 and found["labels"]["counts"] == {"0": 1, "1": 1}


def test_refusals(files):
    folder, _, _ = files
    write_challenge_h5(folder / "wide.h5", Dataset(images(1, 2), [0, 1]))
    with pytest.raises(InputError, match=r"wide\.h5"):
        show_file(folder / "wide.h5", folder / "net.h5", out=folder / "shown")
    save_net(small_challenge_net(seed=3), folder / "stranger.h5")
    with pytest.raises(InputError, match="does not say which"):
        show_file(
            folder / "data.h5",
            folder / "net.h5",
            repaired=folder / "stranger.h5",
            out=folder / "shown",
        )
    assert not list(folder.glob("shown*"))
