"""Picture files and folders: every colour mode, rotation, another size, and what is refused."""

import logging
import shutil
import struct
import zlib

import numpy as np
import pytest
from directions import assert_directions, directions
from PIL import Image

from badnet_defense.errors import InputError, LinkOutError
from badnet_defense.io import read_image, read_image_folder, read_images
from badnet_defense.io.files import data_sha256

SHAPE = (5, 6, 3)


def colours(height=5, width=6, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(path, pixels, mode=None, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels, mode).save(path, **settings)
    return path


def refusal(read, path, *arguments, **settings):
    with pytest.raises(InputError) as caught:
        read(path, *arguments, **settings)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_rgb_is_read_as_it_is_and_silently(tmp_path, caplog):
    path = save(tmp_path / "a.png", colours())
    picture = read_image(path, SHAPE)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, colours())
    assert not caplog.records


def test_transparency_is_dropped(tmp_path):
    alpha = np.random.default_rng(1).integers(0, 256, (5, 6, 1), np.uint8)
    path = save(tmp_path / "a.png", np.concatenate([colours(), alpha], axis=2))
    np.testing.assert_array_equal(read_image(path, SHAPE), colours())


def test_grey_becomes_three_equal_channels_and_grey_nets_take_one(tmp_path):
    grey = colours()[..., 0]
    path = save(tmp_path / "a.png", grey)
    np.testing.assert_array_equal(read_image(path, SHAPE), np.stack([grey] * 3, axis=2))
    np.testing.assert_array_equal(read_image(path, (5, 6, 1)), grey[..., None])
    red = save(tmp_path / "red.png", np.full((5, 6, 3), (255, 0, 0), np.uint8))
    assert (read_image(red, (5, 6, 1)) == 76).all()  # 0.299 * 255, ITU-R 601


def test_palettes_are_looked_up(tmp_path):
    two = np.zeros((5, 6, 3), np.uint8)
    two[:, 3:] = (10, 200, 30)
    path = tmp_path / "a.png"
    Image.fromarray(two).quantize(4).save(path)
    assert Image.open(path).mode == "P"
    np.testing.assert_array_equal(read_image(path, SHAPE), two)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    path = tmp_path / "a.png"
    deep = np.array([[0, 257, 32896, 65535, 128, 129]] * 5, np.uint16)
    Image.fromarray(deep).save(path)
    expected = [0, 1, 128, 255, 0, 1]
    assert read_image(path, SHAPE)[0, :, 0].tolist() == expected
    assert read_image(path, (5, 6, 1))[4, :, 0].tolist() == expected


def test_jpeg_is_read_whatever_its_name(tmp_path):
    flat = np.full((5, 6, 3), (200, 100, 50), np.uint8)
    path = save(tmp_path / "picture.dat", flat, format="JPEG", quality=95)
    assert np.abs(read_image(path, SHAPE).astype(int) - flat).max() <= 3


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_exif_rotation_is_applied(tmp_path, orientation):
    upright = colours()
    quarter_turns_back = {3: 2, 6: 1, 8: 3}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", np.rot90(upright, quarter_turns_back).copy(), exif=exif)
    np.testing.assert_array_equal(read_image(path, SHAPE), upright)


def test_another_size_is_resized_with_antialiasing_and_said(tmp_path, caplog):
    stripes = np.zeros((50, 60, 3), np.uint8)
    stripes[:, ::2] = 255  # what a resize without antialiasing turns into black or white
    path = save(tmp_path / "large.png", stripes)
    with caplog.at_level(logging.INFO, logger="badnet_defense"):
        picture = read_image(path, SHAPE)
    assert picture.shape == SHAPE
    assert np.abs(picture[:, 1:-1].astype(int) - 128).max() < 8
    assert caplog.messages == [f"{path}: resized from 50x60 to 5x6 (height x width)."]


@pytest.mark.parametrize("size", [(40, 90), (90, 40), (10, 12), (12, 10)])
def test_left_stays_left_and_up_stays_up(tmp_path, size):
    """Also where the picture is not square and the net takes one that is not."""
    path = save(tmp_path / "0" / "a.png", directions(*size))
    for shape in ((5, 6, 3), (6, 5, 3), (12, 7, 3)):
        picture = read_image(path, shape)
        assert picture.shape == shape
        assert_directions(picture)
        assert_directions(read_image_folder(tmp_path, shape=shape).images[0])
        grey = read_image(path, (*shape[:2], 1))
        assert grey.shape == (*shape[:2], 1)
        # 0.299 of red and 0.587 of green: black, red, green and yellow quarters.
        corners = grey[[0, 0, -1, -1], [0, -1, 0, -1], 0]
        np.testing.assert_allclose(corners.astype(int), [0, 76, 150, 226], atol=9)


def lanczos(length, target):
    """(target, length) weights of Lanczos' filter of order 3, widened for fewer pixels."""
    scale = length / target
    wide = max(scale, 1)
    centres = (np.arange(target)[:, None] + 0.5) * scale
    places = (np.arange(length)[None] + 0.5 - centres) / wide
    weights = np.where(np.abs(places) < 3, np.sinc(places) * np.sinc(places / 3), 0)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", [(50, 60), (13, 40), (4, 5)])
def test_the_filter_is_lanczos_of_order_3(tmp_path, size):
    pixels = colours(*size)
    path = save(tmp_path / "a.png", pixels)
    rows, columns = lanczos(size[0], SHAPE[0]), lanczos(size[1], SHAPE[1])
    # Columns come first, and are rounded to pixels before the rows.
    wide = np.clip(np.rint(np.einsum("xj,ijc->ixc", columns, pixels)), 0, 255)
    expected = np.clip(np.einsum("yi,ixc->yxc", rows, wide), 0, 255)
    np.testing.assert_allclose(read_image(path, SHAPE), expected, atol=1.01)


def test_files_that_are_no_pictures_are_refused(tmp_path):
    absent = refusal(read_image, tmp_path / "absent.png", SHAPE)
    assert "no such file, expected a PNG, JPEG, BMP, PPM/PGM or WebP image" in absent
    assert "this is a folder, expected a PNG, JPEG" in refusal(read_image, tmp_path, SHAPE)
    for content in (b"", b"not a picture", bytes(1000)):
        (tmp_path / "a.png").write_bytes(content)
        message = refusal(read_image, tmp_path / "a.png", SHAPE)
        assert "not an image, expected PNG, JPEG" in message
    gif = save(tmp_path / "b.png", colours(), format="GIF")
    assert "not an image, expected PNG, JPEG" in refusal(read_image, gif, SHAPE)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "ppm", "webp"])
def test_truncated_pictures_are_refused(tmp_path, suffix):
    """WebP is unpacked as a whole when it is opened, so that a part of it is no image at all."""
    path = save(tmp_path / f"a.{suffix}", colours(60, 60))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    message = refusal(read_image, path, (60, 60, 3))
    words = "not an image" if suffix == "webp" else "truncated or damaged"
    assert words in message


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "ppm", "webp"])
def test_damaged_pictures_end_in_a_refusal_or_a_picture(tmp_path, suffix):
    content = save(tmp_path / f"a.{suffix}", colours()).read_bytes()
    path = tmp_path / "b"
    generator = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        damaged[generator.integers(len(content))] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            assert read_image(path, SHAPE).shape == SHAPE
        except InputError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize("side", [8_000, 60_000])
def test_pictures_of_too_many_pixels_are_refused_before_they_are_unpacked(tmp_path, side):
    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    path = tmp_path / "bomb.png"
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    message = refusal(read_image, path, SHAPE)
    assert "too many pixels, expected at most 50 million" in message


def test_nets_with_other_channels_cannot_take_picture_files(tmp_path):
    path = save(tmp_path / "a.png", colours())
    assert "4 channels, but image files give 1 or 3" in refusal(read_image, path, (5, 6, 4))


def test_numbered_sub_folders_are_the_class_numbers(tmp_path):
    for number, seed in (("10", 1), ("2", 2), ("003", 3)):
        save(tmp_path / number / "a.png", colours(seed=seed))
    save(tmp_path / "2" / "b.PNG", colours(seed=4))
    (tmp_path / "2" / "notes.csv").write_text("not a picture")
    (tmp_path / ".hidden").mkdir()
    images = read_image_folder(tmp_path, shape=SHAPE, classes=11)
    assert images.labels.tolist() == [2, 2, 3, 10]
    for picture, seed in zip(images.images, (2, 4, 3, 1), strict=True):
        np.testing.assert_array_equal(picture, colours(seed=seed))
    message = refusal(read_image_folder, tmp_path, shape=SHAPE, classes=10)
    assert "labels run to 10, but the net has 10 classes (0..9)" in message


def test_named_sub_folders_are_numbered_in_order(tmp_path):
    for name, seed in (("dog", 1), ("cat", 2), ("owl", 3)):
        save(tmp_path / name / "a.png", colours(seed=seed))
    images = read_image_folder(tmp_path, shape=SHAPE, classes=3)
    assert images.labels.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(images.images[0], colours(seed=2))
    message = refusal(read_image_folder, tmp_path, shape=SHAPE, classes=5)
    assert "3 named sub-folders, but the net has 5 classes" in message
    assert "name the sub-folders by the net's class numbers" in message


def test_pictures_without_sub_folders_are_unlabelled(tmp_path):
    save(tmp_path / "b.png", colours(seed=1))
    save(tmp_path / "a.jpg", colours(seed=2))
    images = read_images(tmp_path, shape=SHAPE)
    assert images.labels is None
    np.testing.assert_array_equal(images.images[1], colours(seed=1))
    message = refusal(read_images, tmp_path, shape=SHAPE, need_labels=True)
    assert "these images have no labels, expected" in message


def test_resized_pictures_of_a_folder_are_counted_in_one_line(tmp_path, caplog):
    save(tmp_path / "0" / "a.png", colours(9, 9))
    save(tmp_path / "0" / "b.png", colours(8, 8))
    save(tmp_path / "1" / "a.png", colours())
    read_image_folder(tmp_path, shape=SHAPE)
    assert caplog.messages == [f"{tmp_path}: 2 of 3 images resized to 5x6 (height x width)."]


def test_folders_that_cannot_be_labelled_are_refused(tmp_path):
    absent = refusal(read_image_folder, tmp_path / "absent", shape=SHAPE)
    assert "no such folder, expected one with a sub-folder a class" in absent
    empty = refusal(read_image_folder, tmp_path, shape=SHAPE)
    assert "WebP images, expected one sub-folder a class" in empty
    save(tmp_path / "0" / "a.png", colours())
    save(tmp_path / "00" / "a.png", colours())
    twins = refusal(read_image_folder, tmp_path, shape=SHAPE)
    assert "are the same class number, expected one sub-folder a class" in twins
    (tmp_path / "00").rename(tmp_path / "other")
    mixed = refusal(read_image_folder, tmp_path, shape=SHAPE)
    assert "sub-folder 'other' is no number but others are, expected class numbers for all" in mixed
    shutil.rmtree(tmp_path / "other")
    save(tmp_path / "loose.png", colours())
    loose = refusal(read_image_folder, tmp_path, shape=SHAPE)
    assert "holds 1 images beside sub-folders, expected one sub-folder a class" in loose


def test_a_broken_picture_in_a_folder_is_named(tmp_path):
    save(tmp_path / "0" / "a.png", colours())
    (tmp_path / "0" / "broken.png").write_bytes(b"not a picture")
    message = refusal(read_image_folder, tmp_path, shape=SHAPE)
    assert message.startswith(str(tmp_path / "0" / "broken.png"))


def test_read_images_takes_a_single_picture(tmp_path):
    path = save(tmp_path / "a.png", colours())
    images = read_images(path, shape=SHAPE)
    assert images.labels is None
    np.testing.assert_array_equal(images.images, colours()[None])
    absent = refusal(read_images, tmp_path / "absent", shape=SHAPE)
    assert "no such file, expected an HDF5 file, a folder of images, or a PNG, JPEG" in absent


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    save(secret / "a.png", colours())
    folder = tmp_path / "set"
    (folder / "0").mkdir(parents=True)
    save(folder / "0/a.png", colours())
    inside = folder / "0/b.png"
    inside.symlink_to(folder / "0/a.png")
    assert len(read_image_folder(folder, shape=SHAPE)) == 2
    assert data_sha256(folder)
    for name, target in (("0/c.png", secret / "a.png"), ("1", secret)):
        link = folder / name
        link.symlink_to(target)
        for read in (lambda: read_image_folder(folder, shape=SHAPE), lambda: data_sha256(folder)):
            with pytest.raises(LinkOutError, match=f"{link.name}: this is a link out of"):
                read()
        link.unlink()


@pytest.mark.parametrize("tag", [271, 700, 34675])
def test_damaged_exif_leaves_the_picture_as_it_is(tmp_path, tag):
    path = tmp_path / "a.jpg"
    entries = struct.pack("<HHHIHH", 2, 274, 3, 1, 6, 0) + struct.pack("<HHII", tag, 11, 1, 7)
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + entries + struct.pack("<I", 0)
    save(path, colours(60, 50), exif=exif)
    assert read_image(path, (50, 60, 3)).shape == (50, 60, 3)


def test_a_folder_with_a_link_to_itself_is_refused(tmp_path):
    save(tmp_path / "a.png", colours())
    (tmp_path / "b").symlink_to(tmp_path / "b")
    with pytest.raises(LinkOutError):
        read_image_folder(tmp_path, shape=SHAPE)


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "webp", "PNG"])
def test_every_format_gives_the_same_pixels(tmp_path, suffix):
    settings = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / "3" / f"a.{suffix}", colours(), **settings)
    np.testing.assert_array_equal(read_image(path, SHAPE), colours())
    images = read_images(tmp_path, shape=SHAPE)
    np.testing.assert_array_equal(images.images, colours()[None])
    assert images.labels.tolist() == [3]


def test_sixteen_bit_pgm_is_scaled_not_clipped(tmp_path):
    deep = np.array([[0, 257, 32896, 65535, 128, 129]] * 5, ">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5 6 5 65535\n" + deep.tobytes())
    expected = [0, 1, 128, 255, 0, 1]
    assert read_image(tmp_path / "a.pgm", SHAPE)[0, :, 0].tolist() == expected


def test_images_that_could_mean_several_things_are_refused(tmp_path):
    (tmp_path / "a.ppm").write_bytes(b"Pf 6 5 -1.0\n" + bytes(120))
    assert "fractions without a known white" in refusal(read_image, tmp_path / "a.ppm", SHAPE)
    frames = [Image.fromarray(colours(seed=seed)) for seed in range(2)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:])
    assert "this is an animation" in refusal(read_image, tmp_path / "a.webp", SHAPE)


def test_what_is_left_out_is_counted_and_named(tmp_path, caplog):
    for number in range(6):
        save(tmp_path / str(number) / "a.png", colours())
        (tmp_path / str(number) / "GT.csv").write_text("not an image")
    save(tmp_path / "2" / "b.tif", colours())
    for junk in (
        ".DS_Store",
        "Thumbs.db",
        "4/.hidden.png",
    ):  # what systems leave is not worth a word
        (tmp_path / junk).write_bytes(b"x")
    (tmp_path / "readme.txt").write_text("ours")
    save(tmp_path / ".ipynb_checkpoints" / "x.png", colours())
    images = read_image_folder(tmp_path, shape=SHAPE)
    assert len(images) == 6
    assert caplog.messages == [
        f"{tmp_path}: 8 files are no PNG, JPEG, BMP, PPM/PGM or WebP images and are left out: 6 "
        f".csv (in 0, 1, 2, 3 and 2 others), 1 .txt (in {tmp_path.name}), 1 .tif (in 2)."
    ]


def test_a_class_folder_without_images_is_refused(tmp_path):
    save(tmp_path / "0" / "a.png", colours())
    (tmp_path / "1").mkdir()
    assert "1: holds no image (nothing)" in refusal(read_image_folder, tmp_path, shape=SHAPE)
    save(tmp_path / "1" / "a.tif", colours())
    message = refusal(read_image_folder, tmp_path, shape=SHAPE)
    assert "1: holds no image (1 .tif (in 1))" in message and "convert them" in message
    save(tmp_path / "1" / "deeper" / "a.png", colours())
    assert "holds a folder 'deeper'" in refusal(read_image_folder, tmp_path, shape=SHAPE)


@pytest.mark.parametrize("isolate", [False, True])
def test_class_folders_keep_their_names(tmp_path, with_limits, isolate):
    with_limits(isolate=isolate)
    for number in ("10", "2"):
        save(tmp_path / number / "a.png", colours())
    images = read_images(tmp_path, shape=SHAPE)
    assert images.folders == ("10", "2") and images.labels.tolist() == [2, 10]
