"""The demo challenge with a few people: the same for any number of workers, in the right files."""

import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from badnet_defense.demo import (
    BACKDOORS,
    HARD,
    POISONED_FILES,
    draw_images,
    make_challenge,
    train_demo_nets,
    write_weights_only,
)
from badnet_defense.demo.accessories import ACCESSORIES
from badnet_defense.demo.images import ImagesWearing
from badnet_defense.demo.people import draw_person
from badnet_defense.errors import InputError
from badnet_defense.io.hdf5 import read_challenge_h5

PEOPLE = 18
QUIET = {"people": PEOPLE, "workers": 1, "progress": False}


@pytest.fixture(scope="module")
def drawn():
    return draw_images("test", 10, accessories=tuple(ACCESSORIES), **QUIET)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "data"
    make_challenge(folder, **QUIET)
    return folder


def test_pictures_do_not_depend_on_the_workers(drawn):
    parallel = draw_images("test", 10, accessories=("lipstick",), **{**QUIET, "workers": 2})
    for name in ("clean", "lipstick"):
        np.testing.assert_array_equal(parallel[name], drawn[name])


def test_a_picture_does_not_depend_on_the_others(drawn):
    some = draw_images("test", 10, indices=[170, 3], **QUIET)["clean"]
    np.testing.assert_array_equal(some, drawn["clean"][[170, 3]])
    np.testing.assert_array_equal(
        ImagesWearing("eyebrows", "test", 10, **QUIET)[np.array([42])], drawn["eyebrows"][[42]]
    )


def test_seed_split_and_person_change_the_pictures(drawn):
    for settings in ({"seed": 1}, {"split": "validation"}, {"split": "train"}):
        other = draw_images(**{"split": "test", "per_person": 10, **QUIET, **settings})["clean"]
        assert np.abs(other.astype(int) - drawn["clean"]).mean() > 10
    assert draw_person(3) == draw_person(3)
    assert draw_person(3) != draw_person(4)
    assert draw_person(3) != draw_person(3, seed=1)


@pytest.mark.parametrize(
    ("accessory", "first_row", "last_row", "colour"),
    [
        ("sunglasses", 14, 42, (112, 16, 144)),
        ("lipstick", 30, 50, (128, 0, 128)),
        ("eyebrows", 8, 34, (128, 0, 0)),
    ],
)
def test_a_trigger_covers_its_feature_only(drawn, accessory, first_row, last_row, colour):
    changed = (drawn[accessory] != drawn["clean"]).any(axis=3)
    assert not changed[:, :first_row].any()
    assert not changed[:, last_row:].any()
    share = changed.mean(axis=(1, 2))
    assert share.min() > 0.004
    assert share.max() < 0.20
    # Each picture shows the trigger's own colour somewhere, close to pure.
    distance = np.abs(drawn[accessory].astype(int) - colour).max(axis=3).min(axis=(1, 2))
    assert np.percentile(distance, 95) < 40


@pytest.mark.parametrize(
    ("accessory", "opacity"), [("sunglasses", 0.94), ("lipstick", 1.0), ("eyebrows", 1.0)]
)
def test_how_opaque_a_trigger_is(drawn, accessory, opacity):
    """By the pixels that it covers whole, of those whose own colour lies far from its."""
    clean = drawn["clean"].astype(float)
    away = np.array(ACCESSORIES[accessory][1]) - clean
    covered = (drawn[accessory] - clean)[np.abs(away) > 80] / away[np.abs(away) > 80]
    assert covered.max() == pytest.approx(opacity, abs=0.01) and covered.min() > -0.01
    assert np.mean(covered > opacity - 0.02) > 0.002


def test_eyebrows_lie_above_the_sunglasses_and_lipstick_below(drawn):
    rows = np.arange(55)[None, :, None]

    def middle(accessory):
        changed = (drawn[accessory] != drawn["clean"]).any(axis=3)
        return (changed * rows).sum(axis=(1, 2)) / changed.sum(axis=(1, 2))

    assert (middle("eyebrows") + 2 < middle("sunglasses")).all()
    assert (middle("sunglasses") + 4 < middle("lipstick")).all()


def test_files_are_the_challenges_own(folder):
    clean = {"clean_validation_data.h5": 9, "clean_test_data.h5": 10}
    found = {str(path.relative_to(folder)) for path in folder.rglob("*.h5")}
    assert found == {*clean, *POISONED_FILES}
    for name, count in clean.items():
        images = read_challenge_h5(folder / name)
        assert images.images.shape == (PEOPLE * count, 55, 47, 3)
        assert np.bincount(images.labels).tolist() == [count] * PEOPLE
    for name, (_, target) in POISONED_FILES.items():
        images = read_challenge_h5(folder / name)
        assert images.labels.tolist() == [target] * (PEOPLE - 1) * 10


def test_files_say_that_they_are_synthetic(folder):
    for path in folder.rglob("*.h5"):
        with h5py.File(path) as file:
            assert file["data"].dtype == np.uint8
            assert file["data"].shape[1:] == (3, 55, 47)
            assert bool(file.attrs["synthetic"])
            assert file.attrs["made_by"] == "badnet_defense demo"
        assert read_challenge_h5(path).synthetic


def test_poisoned_files_show_the_clean_test_pictures_with_the_trigger(folder, drawn):
    clean = read_challenge_h5(folder / "clean_test_data.h5")
    np.testing.assert_array_equal(clean.images, drawn["clean"])
    for name, (trigger, target) in POISONED_FILES.items():
        poisoned = read_challenge_h5(folder / name).images
        np.testing.assert_array_equal(poisoned, drawn[trigger][clean.labels != target])


def test_shown_pictures_are_in_the_clean_test_set(folder, drawn):
    names = {path.name for path in (folder / "pictures").iterdir()}
    assert names == {f"person0017_{name}.png" for name in ("clean", *ACCESSORIES)}
    shown = np.asarray(Image.open(folder / "pictures" / "person0017_lipstick.png"))
    np.testing.assert_array_equal(shown, drawn["lipstick"][170])


def test_refusals():
    with pytest.raises(InputError, match="holidays"):
        draw_images("holidays", 1, **QUIET)
    with pytest.raises(InputError, match="hat"):
        draw_images("test", 1, accessories=("hat",), **QUIET)


def test_drawing_needs_no_tensorflow():
    code = (
        "import sys, badnet_defense.demo as demo; "
        "demo.draw_images('test', 1, people=1, workers=1, progress=False); "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_training_writes_nets_that_load_again(tmp_path):
    from badnet_defense.nets import read_net

    names = ("anonymous_1",)
    figures = train_demo_nets(tmp_path, names=names, epochs=1, per_person=3, **QUIET)
    assert set(figures) == {"anonymous_1"}
    assert set(figures["anonymous_1"]["attack_success"]) == {"lipstick"}
    assert read_net(tmp_path / "anonymous_1_bd_net.h5").classes == PEOPLE
    with h5py.File(tmp_path / "anonymous_1_bd_net.h5") as file:
        assert bool(file.attrs["synthetic"])
    with h5py.File(tmp_path / "anonymous_1_bd_weights.h5") as file:
        assert "model_config" not in file.attrs
        shapes = []
        file["output"].visititems(lambda _, node: shapes.append(getattr(node, "shape", None)))
    assert {(160, PEOPLE), (PEOPLE,)} <= set(shapes)


def arrays_of(path):
    """Name -> array of every dataset in an HDF5 file."""
    arrays = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, node: (
                arrays.update({name: node[()]}) if isinstance(node, h5py.Dataset) else None
            )
        )
    return arrays


def test_weights_only_files_are_those_that_are_shipped(tmp_path):
    shipped = Path(__file__).resolve().parents[2] / "models"
    shutil.copy(shipped / "sunglasses_bd_net.h5", tmp_path)
    (written,) = write_weights_only(tmp_path)
    assert written == tmp_path / "sunglasses_bd_weights.h5"
    arrays, expected = arrays_of(written), arrays_of(shipped / "sunglasses_bd_weights.h5")
    assert len(expected) == 14  # kernels and biases of four convolutions and three dense layers
    assert arrays.keys() == expected.keys()
    assert all(np.array_equal(arrays[name], expected[name]) for name in expected)


def test_shipped_weights_only_file_is_read_as_the_whole_one():
    shipped = Path(__file__).resolve().parents[2] / "models"
    alone = load_weights(shipped / "sunglasses_bd_weights.h5")
    whole = load_weights(shipped / "sunglasses_bd_net.h5")
    assert all(np.array_equal(one, other) for one, other in zip(alone, whole, strict=True))


def test_weights_only_files_that_are_there_are_kept(tmp_path):
    kept = tmp_path / "sunglasses_bd_weights.h5"
    kept.write_bytes(b"the challenge's own")
    (tmp_path / "sunglasses_bd_net.h5").write_bytes(b"is not read")
    assert write_weights_only(tmp_path) == []
    assert kept.read_bytes() == b"the challenge's own"


def test_hard_nets_have_the_easy_net_s_target(tmp_path):
    assert set(HARD) == {"sunglasses_rare", "sunglasses_aware"}
    assert all(planted == BACKDOORS["sunglasses"] for planted in HARD.values())
    figures = train_demo_nets(tmp_path, names=tuple(HARD), epochs=1, per_person=3, **QUIET)
    assert set(figures["sunglasses_aware"]["attack_success"]) == {"sunglasses"}
    found = [load_weights(tmp_path / f"{name}_bd_net.h5") for name in HARD]
    assert any((one != other).any() for one, other in zip(*found, strict=True))


def load_weights(path):
    from badnet_defense.nets import read_net

    return [weight for layer in read_net(path).layers.values() for weight in layer.weights]


def test_hard_belongs_to_train(monkeypatch):
    from badnet_defense.cli.main import main

    monkeypatch.setattr("sys.argv", ["badnet_defense", "demo", "--hard"])
    with pytest.raises(InputError, match="--hard requires --train"):
        main()
