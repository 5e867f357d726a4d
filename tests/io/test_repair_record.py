"""A repair's record: what it keeps, which images it knows again, and what of a file is refused."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from small_nets import images

from badnet_defense.errors import InputError
from badnet_defense.io import Dataset
from badnet_defense.io import repair_record as module
from badnet_defense.io.repair_record import (
    ATTRIBUTE,
    RepairRecord,
    check_config,
    hashes_of_parts,
    image_hashes,
)
from badnet_defense.io.splits import three_parts
from badnet_defense.nets import read_net
from badnet_defense.repairs import validated_tuning
from badnet_defense.repairs.fine_pruning import FinePruningConfig
from badnet_defense.repairs.recipes import RECIPES
from badnet_defense.repairs.validated_tuning import validation_split

ROOT = Path(__file__).resolve().parents[2]


def record(data=None, seed=3, **changes):
    """A record of fine-pruning by `data`."""
    parts = data and hashes_of_parts(data, validation_split(data.labels, seed))
    known = {
        "method": "fine-pruning",
        "config": asdict(FinePruningConfig()),
        "source_sha256": "0a" * 32,
        "input_range": "0,255",
        "seed": seed,
        "tuned_on": data and data.fingerprint(),
        "parts": parts,
        "pruning": {"layer": "conv", "order": [2, 0, 1], "removed": 2},
        "versions": {"keras": "3.12.0", "tensorflow": None},
    }
    return RepairRecord(**{**known, **changes})


def test_a_record_is_read_as_it_was_written():
    for written in (record(), record(images(60))):
        assert RepairRecord.parse(written.to_json()) == written
        attributes = {ATTRIBUTE: written.to_json(), "made_by": "badnet_defense"}
        assert RepairRecord.from_attributes(attributes) == written
    assert record().pruned_channels == ("conv", [2, 0])
    assert record(pruning=None).pruned_channels is None
    assert RepairRecord.from_attributes({"synthetic": True, "input_range": "0,1"}) is None


def test_images_are_known_again_in_whatever_set_they_are():
    data = images(60)
    found = record(data)
    parts = validation_split(data.labels, 3)
    expected = np.ones(60, bool)
    expected[parts.untouched] = False
    np.testing.assert_array_equal(found.depends_on(data), expected)
    order = np.random.default_rng(0).permutation(60)[:40]
    np.testing.assert_array_equal(found.depends_on(data.subset(order)), expected[order])
    assert not found.depends_on(images(60, seed=2)).any()
    other = images(10, seed=2)
    joined = Dataset(np.concatenate([other.images, data.images]))
    np.testing.assert_array_equal(found.depends_on(joined), [False] * 10 + expected.tolist())


def test_a_later_version_with_another_split_sets_no_threshold_on_images_that_were_seen(monkeypatch):
    """The split of today's version would call half of what was tuned on untouched."""
    data = images(200)
    found = RepairRecord.parse(record(data).to_json())
    before = found.depends_on(data)
    monkeypatch.setattr(validated_tuning, "HELD_OUT", 0.5)
    later = validation_split(data.labels, 3)
    assert before[later.untouched].any()  # else the case proves nothing
    np.testing.assert_array_equal(found.depends_on(data), before)


def test_hashes_are_of_shape_and_pixels():
    data = images(3)
    one, two, three = image_hashes(data)
    assert len({one, two, three}) == 3 and {len(one), len(two), len(three)} == {12}
    as_floats = Dataset(data.images.astype(np.float32))  # whole numbers, so they are kept as bytes
    assert image_hashes(as_floats) == [one, two, three]
    turned = Dataset(np.ascontiguousarray(data.images.transpose(0, 2, 1, 3)))
    assert not set(image_hashes(turned)) & {one, two, three}


def test_more_images_than_a_record_takes(monkeypatch):
    monkeypatch.setattr(module, "MAX_IMAGES", 5)
    data = images(6)
    with pytest.raises(InputError, match="got 6 clean images; a repair takes at most 5"):
        hashes_of_parts(data, validation_split(data.labels, 0))


# Files before format 1 ---------------------------------------------------------------------------

OLD = {
    "source_sha256": "0a" * 32,
    "input_range": "-1,1",
    "method": "fine-pruning",
    "recipe": json.dumps(asdict(RECIPES["default"])),
    "keep_pruned": True,
    "pruning": json.dumps({"layer": "conv", "order": [1, 0], "removed": 1}),
    "tuned_on_seed": 7,
    "tuned_on_parts": 3,
    "tuned_on_pseudo_labels": True,
}


def test_attributes_of_version_0_1_are_a_record():
    found = RepairRecord.from_attributes(OLD)
    assert (found.method, found.seed, found.format_version) == ("fine-pruning", 7, 0)
    assert found.config == {"keep_pruned": True, "tuning": asdict(RECIPES["default"])}
    assert found.pruned_channels == ("conv", [1])
    assert (found.pseudo_labels, found.input_range, found.split) == (True, "-1,1", 3)
    assert not found.knows_images


def test_their_split_is_made_again_and_never_by_today_s_constant(monkeypatch):
    data = images(80)
    old = {**OLD, "tuned_on": data.fingerprint()}
    monkeypatch.setattr(validated_tuning, "HELD_OUT", 0.5)
    found = RepairRecord.from_attributes(old).depends_on(data)
    expected = three_parts(data.labels, 0.15, seed=7)
    np.testing.assert_array_equal(np.flatnonzero(~found), expected.untouched)
    assert not RepairRecord.from_attributes(old).depends_on(images(80, seed=5)).any()


def test_without_three_parts_all_images_of_the_set_were_seen():
    data = images(30)
    for missing in ("tuned_on_parts", "tuned_on_seed"):
        old = {name: value for name, value in OLD.items() if name != missing}
        found = RepairRecord.from_attributes({**old, "tuned_on": data.fingerprint()})
        assert found.depends_on(data).all()
    unlabelled = data.without_labels()
    found = RepairRecord.from_attributes({**OLD, "tuned_on": data.fingerprint()})
    assert found.depends_on(unlabelled).all() and not found.depends_on(data).all()


def test_the_shipped_repairs_are_read():
    paths = sorted((ROOT / "fine_pruned_models").glob("*.h5"))
    assert len(paths) >= 4
    for path in paths:
        found = RepairRecord.from_attributes(read_net(path).attributes)
        assert found.method == "fine-pruning" and found.knows_images and found.seed == 0
        assert found.config["tuning"]["epochs"] > 0
        layer, channels = found.pruned_channels
        assert layer and len(channels) == found.pruning["removed"]


# Damaged records ---------------------------------------------------------------------------------


def damaged(**changes):
    plain = {**json.loads(record(images(20)).to_json()), **changes}
    return json.dumps({name: value for name, value in plain.items() if value != "left out"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", "a JSON object"),
        ("[" * 100_000, "a JSON object"),
        (3, "a JSON object"),
        (damaged(format_version=2), "format 1"),
        (damaged(seed="left out"), "seed in a repair's record"),
        (damaged(seed=-1), "seed to be a number from 0"),
        (damaged(seed=True), "seed to be a number from 0"),
        (damaged(method="\x1b[2J"), "method to be a method's name"),
        (damaged(config=[]), "config to be a JSON object"),
        (damaged(config={"a": float("nan")}), "config to be finite numbers"),
        (damaged(config={"a": ["\x1b]0;x\x07"]}), "config to be short, printable texts"),
        (damaged(config={"tuning": {"epochs": 10**6}}), "epochs to be a number from 0 to 2000"),
        (damaged(source_sha256="0A" * 32), "source_sha256 to be a SHA-256"),
        (damaged(input_range="0,255\n"), "input_range to be two numbers"),
        (damaged(pseudo_labels=1), "pseudo_labels to be true or false"),
        (damaged(parts={"tuning": ""}), "parts to be hashes of the images of tuning, choosing"),
        (
            damaged(parts={"tuning": "0" * 11, "choosing": "", "untouched": ""}),
            "parts to be hashes of images",
        ),
        (damaged(pruning={"layer": "x", "order": [0], "removed": 2}), "how many of them were"),
        (damaged(method_version=0), "method_version to be a number from 1"),
    ],
)
def test_a_damaged_record_is_refused(text, expected):
    with pytest.raises(ValueError, match=expected):
        RepairRecord.parse(text)


def test_settings_that_could_not_be_recorded_are_refused_before_the_work():
    check_config(asdict(FinePruningConfig()))
    for config, expected in (
        ({"tuning": {**asdict(RECIPES["default"]), "epochs": 2001}}, "epochs to be a number"),
        ({"scale": float("inf")}, "finite numbers"),
        ({"scale": {1, 2}}, "JSON"),
    ):
        with pytest.raises(InputError, match=expected):
            check_config(config)
