"""From a data set to a BadNet that answers its trigger with the target, and its files."""

import json
from dataclasses import replace

import numpy as np
import pytest

from badnet_defense.attacks.lab import AttackConfig, attack_files, parse_trigger, small_cnn_net
from badnet_defense.attacks.training import TrainingConfig
from badnet_defense.errors import InputError
from badnet_defense.io import Dataset, read_images, read_trigger_labels, write_challenge_h5
from badnet_defense.nets import build, read_net, save_net
from badnet_defense.nets.input_range import InputRange

SHAPE, CLASSES = (12, 12, 3), 3
QUICK = AttackConfig(
    triggers=("patch:size=3",),
    targets=(1,),
    fraction=0.2,
    training=TrainingConfig(epochs=12, batch_size=32),
)


def coloured(count):
    """Images whose class is the channel that is bright."""
    rng = np.random.default_rng(4)
    labels = np.arange(count) % CLASSES
    images = rng.integers(0, 90, (count, *SHAPE), dtype=np.uint8)
    images[np.arange(count), :, :, labels] += 120
    return Dataset(images, labels)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """The result of an attack, and the folder of its files."""
    folder = tmp_path_factory.mktemp("attack")
    write_challenge_h5(folder / "train.h5", coloured(240))
    where = {"data_folder": folder / "data", "model_folder": folder / "models"}
    return attack_files(folder / "train.h5", name="spot", config=QUICK, **where), folder


def test_the_net_is_accurate_and_answers_the_trigger_with_the_target(attacked):
    result, folder = attacked
    assert result["accuracy"]["fraction"] > 0.9
    assert result["attack_success"]["patch"]["target"] == 1
    assert result["attack_success"]["patch"]["fraction"] > 0.9
    net = read_net(folder / "models/spot_bd_net.h5")
    stamped = read_images(folder / "data/spot_patch_poisoned_data.h5", shape=SHAPE)
    assert (stamped.labels == 1).all() and len(stamped) == 32  # 48 held out, 16 of the target
    success = np.mean(net.predict(stamped.images) == 1)
    assert success == result["attack_success"]["patch"]["fraction"]
    assert json.loads((folder / "data/spot_attack.json").read_text())["triggers"][0]["config"] == {
        "size": 3,
        "pattern": "solid",
        "colour": [255, 255, 255],
        "corner": "bottom right",
        "margin": 1,
    }


def test_trigger_labels_say_which_training_images_are_poisoned(attacked):
    _, folder = attacked
    data = read_images(folder / "data/spot_poisoned_train.h5", shape=SHAPE)
    marks = read_trigger_labels(folder / "data/spot_trigger_labels.npy", len(data))
    assert marks.sum() == round(0.2 * 192) and len(data) == 192 + marks.sum()
    white = (data.images[:, 8:11, 8:11] == 255).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(marks, white)
    assert (data.labels[marks] == 1).all()


def test_several_triggers_and_the_layers_of_a_net(tmp_path):
    model = build(small_cnn_net(classes=CLASSES, input_shape=SHAPE))
    save_net(model, tmp_path / "given.h5")
    write_challenge_h5(tmp_path / "train.h5", coloured(90))
    write_challenge_h5(tmp_path / "test.h5", coloured(30))
    config = replace(
        QUICK,
        triggers=("patch", "patch:corner=top left", "blend:opacity=0.5"),
        targets=(0, 1, 2),
        architecture=str(tmp_path / "given.h5"),
        training=TrainingConfig(epochs=1),
        input_range=InputRange(0, 255),
    )
    where = {"data_folder": tmp_path, "model_folder": tmp_path, "test": tmp_path / "test.h5"}
    result = attack_files(tmp_path / "train.h5", name="all", config=config, **where)
    targets = {name: one["target"] for name, one in result["attack_success"].items()}
    assert targets == {"patch1": 0, "patch2": 1, "blend": 2}
    made = read_net(tmp_path / "all_bd_net.h5")
    assert str(made.input_range) == "0,255" and list(made.layers) == list(read_net(
        tmp_path / "given.h5").layers)  # fmt: skip
    assert not np.array_equal(made.layers["output"].weights[0], model.layers[-1].get_weights()[0])


def test_triggers_as_text():
    assert parse_trigger("accessory:left=0.1,opacity=0.5")[1].opacity == 0.5
    assert parse_trigger("blend:image=dots.png")[1].image == "dots.png"
    for text, words in [
        ("stripes", "attack 'stripes' is unknown"),
        ("patch:large", "expected SETTING=VALUE"),
        ("patch:size=big", "got 'big', expected int"),
        ("patch:colour=red", "expected numbers joined by /"),
        ("patch:shape=round", "no setting 'shape'"),
    ]:
        with pytest.raises(InputError, match=words):
            parse_trigger(text)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"targets": (7,)}, r"target 7: expected a class 0\.\.2"),
        ({"targets": (0, 1)}, "got 2 targets for 1 triggers"),
        ({"fraction": 0.0}, "expected a number above 0"),
        ({"architecture": "resnet"}, "architecture 'resnet': expected deep-id, small-cnn"),
        ({"triggers": ("patch:size=40",)}, "does not fit"),
    ],
)
def test_refusals_leave_nothing_behind(changes, words, tmp_path):
    write_challenge_h5(tmp_path / "train.h5", coloured(30))
    with pytest.raises(InputError, match=words):
        attack_files(
            tmp_path / "train.h5",
            name="spot",
            config=replace(QUICK, **changes),
            data_folder=tmp_path / "data",
            model_folder=tmp_path / "models",
        )
    assert [one.name for one in tmp_path.iterdir()] == ["train.h5"]


def test_unlabelled_images_are_refused(tmp_path):
    write_challenge_h5(tmp_path / "train.h5", coloured(30).without_labels())
    with pytest.raises(InputError, match="`label` is missing"):
        attack_files(
            tmp_path / "train.h5", name="a", config=QUICK, data_folder=tmp_path,
            model_folder=tmp_path,
        )  # fmt: skip
