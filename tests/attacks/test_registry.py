"""The triggers that the attack command plants, by their configs."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from badnet_defense.attacks import ATTACKS, AccessoryConfig, BlendConfig, PatchConfig
from badnet_defense.errors import InputError

SHAPE = (10, 8, 3)
GREY = np.full((2, *SHAPE), 100, np.uint8)


def stamped(name, config, images=GREY):
    return ATTACKS[name].run(config, images.shape[1:]).stamp(images)


@pytest.mark.parametrize("name", ATTACKS.names())
@pytest.mark.parametrize("channels", [1, 3])
def test_every_attack_by_its_defaults_changes_images_of_any_channels(name, channels):
    images = np.full((2, 55, 47, channels), 100, np.uint8)
    found = stamped(name, ATTACKS[name].config(), images)
    assert found.shape == images.shape and found.dtype == np.uint8
    assert (found != images).any() and (images == 100).all()


def test_a_checked_patch_in_a_corner_by_hand():
    config = PatchConfig(
        size=2, pattern="checked", colour=(9, 50, 255), corner="top left", margin=1
    )
    expected = GREY.copy()
    expected[:, 1:3, 1:3] = 0
    expected[:, [1, 2], [1, 2]] = 9, 50, 255
    np.testing.assert_array_equal(stamped("patch", config), expected)


def test_a_blend_by_hand(tmp_path):
    Image.new("RGB", (3, 3), (200, 0, 100)).save(tmp_path / "p.png")
    found = stamped("blend", BlendConfig(image=str(tmp_path / "p.png"), opacity=0.25))
    assert (found == [125, 75, 100]).all()


def test_an_image_with_transparency_is_worn_at_its_place(tmp_path):
    worn = np.zeros((2, 4, 4), np.uint8)
    worn[:, :2] = 200, 0, 0, 255
    worn[:, 2:] = 0, 200, 0, 0  # transparent
    Image.fromarray(worn).save(tmp_path / "worn.png")
    config = AccessoryConfig(image=str(tmp_path / "worn.png"), left=0.25, top=0.2, width=0.5)
    expected = GREY.copy()
    expected[:, 2:4, 2:4] = 200, 0, 0
    np.testing.assert_array_equal(stamped("accessory", config), expected)
    half = stamped("accessory", replace(config, opacity=0.5))
    assert (half[:, 2:4, 2:4] == [150, 50, 50]).all()


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("patch", PatchConfig(size=0), "patch size: got 0"),
        ("patch", PatchConfig(pattern="stripes"), "expected one of solid, checked"),
        ("patch", PatchConfig(colour=(0, 0, 256)), "red, green and blue, each 0-255"),
        ("patch", PatchConfig(corner="middle"), "expected one of top left"),
        ("patch", PatchConfig(size=9), "does not fit into images"),
        ("blend", BlendConfig(opacity=0), "opacity: got 0"),
        ("blend", BlendConfig(image="nothing.png"), "nothing.png"),
        ("accessory", AccessoryConfig(image="nothing.png"), "cannot be read"),
        ("accessory", AccessoryConfig(opacity=2), "opacity: got 2"),
    ],
)
def test_refusals(name, config, message):
    with pytest.raises(InputError, match=message):
        stamped(name, config)


def test_an_image_without_transparency_or_out_of_place_is_refused(tmp_path):
    path = tmp_path / "solid.png"
    Image.new("RGB", (2, 2)).save(path)
    with pytest.raises(InputError, match="no transparency"):
        stamped("accessory", AccessoryConfig(image=str(path)))
    Image.new("RGBA", (2, 2)).save(path)
    with pytest.raises(InputError, match="do not fit into images of 8x10"):
        stamped("accessory", AccessoryConfig(image=str(path), left=0.8))


def test_an_unknown_attack_is_refused_by_name():
    with pytest.raises(InputError, match="attack 'warp' is unknown; expected one of patch, blend"):
        ATTACKS["warp"]
