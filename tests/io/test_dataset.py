"""`Dataset`: what arrays become, and what is refused whoever makes it."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from badnet_defense.errors import InputError
from badnet_defense.io import Dataset

SHAPE = (4, 5, 6, 3)
WHOLE = np.random.default_rng(0).integers(2, 256, SHAPE)
LABELS = [3, 0, 2, 1]


def refusal(images, labels=None, source="set.h5"):
    with pytest.raises(InputError) as caught:
        Dataset(images, labels, source)
    message = str(caught.value)
    assert message.startswith(f"{source}: ")
    assert "--" not in message  # a library knows no command line
    return message


@pytest.mark.parametrize("dtype", ["u1", "i2", ">i4", "u8", "f2", "f4", "f8", ">f8"])
def test_whole_values_of_every_number_type_are_bytes(dtype):
    data = Dataset(WHOLE.astype(dtype))
    assert data.images.dtype == np.uint8
    np.testing.assert_array_equal(data.images, WHOLE)


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f4", "f8"])
@pytest.mark.parametrize("place", [(0, 0, 0, 0), (3, 4, 5, 2)])
def test_one_value_that_is_not_whole_keeps_float32(dtype, place):
    values = WHOLE.astype(dtype)
    values[place] = 100.5
    data = Dataset(values)
    assert data.images.dtype == np.float32
    np.testing.assert_array_equal(data.images, values.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_is_as_small_as_it_can_be_is_not_copied(dtype):
    values = WHOLE.astype(dtype)
    if dtype == np.float32:
        values[0, 0, 0, 0] = 0.25
    assert Dataset(values).images is values


def test_lists_are_arrays():
    data = Dataset(WHOLE.tolist(), LABELS)
    assert data.images.dtype == np.uint8 and data.images.shape == SHAPE
    assert data.labels.dtype == np.int64 and data.labels.tolist() == LABELS


@pytest.mark.parametrize(
    "labels",
    [np.array(LABELS, ">i2"), np.array(LABELS, np.float32), np.array(LABELS)[:, None]],
    ids=["int16", "float32", "column"],
)
def test_labels_are_one_int64_per_image(labels):
    data = Dataset(WHOLE, labels)
    assert data.labels.dtype == np.int64 and data.labels.dtype.isnative
    assert data.labels.tolist() == LABELS


def test_scaled_pixels_are_refused_by_name():
    expected = "set.h5: pixels lie between 0 and 1, expected 0-255; multiply them by 255."
    assert refusal(WHOLE / 255, LABELS) == expected
    assert refusal((WHOLE / 255).astype(np.float32)) == expected
    assert refusal((WHOLE > 128).astype(float)) == expected  # black and white, scaled
    other = Dataset(WHOLE, LABELS, "set.h5")
    with pytest.raises(InputError, match="multiply them by 255"):
        replace(other, images=other.images / np.float32(255))


def test_dark_images_are_no_scaled_ones():
    for values in (np.zeros(SHAPE), np.zeros(SHAPE, np.uint8), np.ones(SHAPE, np.int64)):
        assert Dataset(values).images.dtype == np.uint8
    values = np.full(SHAPE, 0.5)
    values[3, 4, 5, 2] = 1.5
    assert Dataset(values).images.max() == 1.5


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.nan, "images hold NaN or infinite pixels, expected 0-255"),
        (np.inf, "images hold NaN or infinite pixels, expected 0-255"),
        (-np.inf, "images hold NaN or infinite pixels, expected 0-255"),
        (-1, "pixels run from -1 to 255, expected 0-255"),
        (256, "pixels run from 2 to 256, expected 0-255"),
    ],
)
@pytest.mark.parametrize("place", [(0, 0, 0, 0), (3, 4, 5, 2)])
def test_pixels_outside_0_to_255_are_refused(value, expected, place):
    values = WHOLE.astype(float)
    values[1, 1, 1, 1] = 255
    values[place] = value
    assert expected in refusal(values)
    if np.isfinite(value):
        assert expected in refusal(values.astype(int))


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (WHOLE[0], "(5, 6, 3), expected (n, height, width, channels); give images[None]"),
        (WHOLE[0, 0], "(6, 3), expected (n, height, width, channels)"),
        (7, "(), expected (n, height, width, channels)"),
        (WHOLE[None], "(1, 4, 5, 6, 3), expected (n, height, width, channels)"),
        (WHOLE[:0], "(0, 5, 6, 3): no images, expected some"),
        (WHOLE.transpose(0, 3, 1, 2), "(4, 3, 5, 6), as (n, channels, height, width) has"),
        (WHOLE[..., :1].transpose(0, 3, 1, 2), "give images.transpose(0, 2, 3, 1)"),
        (WHOLE.astype(bool), "images have dtype bool, expected numbers"),
        (WHOLE.astype(complex), "images have dtype complex128, expected numbers"),
        (WHOLE.astype(str), "expected numbers"),
        ([[1, 2], [3]], "images are no array"),
    ],
)
def test_what_is_no_set_of_images_is_refused(images, expected):
    assert expected in refusal(images)


def test_images_of_other_channels_and_of_one_row_pass():
    for shape in ((2, 9, 9, 4), (2, 1, 1, 3), (2, 3, 3, 3), (2, 9, 1, 1)):
        assert Dataset(np.zeros(shape)).images.shape == shape


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.eye(4), "(4, 4), as one-hot labels have, expected one class number per image, (4,)"),
        (np.eye(4)[:, :2], "give labels.argmax(axis=1)"),
        (np.zeros((4, 2, 1)), "labels have shape (4, 2, 1), expected (4,)"),
        (3, "labels have shape (), expected (4,)"),
        ([0, 1, 2], "3 labels for 4 images, expected one each"),
        ([[0], [1], [2]], "3 labels for 4 images, expected one each"),
        ([0, 1.5, 2, 3], "labels hold 1.5, expected whole numbers"),
        ([0, np.nan, 2, 3], "labels hold nan, expected whole numbers"),
        ([0, -1, 2, 3], "labels start at -1, expected class numbers from 0"),
        (["a", "b", "c", "d"], "labels have dtype <U1, expected whole numbers"),
        ([True, False, True, True], "labels have dtype bool, expected whole numbers"),
        (np.array([0, 2**63 + 5, 1, 2], np.uint64), "expected class numbers from 0"),
        ([[0, 1], [2], [3], [4]], "labels are no array"),
    ],
)
def test_labels_that_are_no_labels_are_refused(labels, expected):
    assert expected in refusal(WHOLE, labels)


def test_a_part_keeps_what_belongs_to_it():
    data = Dataset(WHOLE, LABELS, "set.h5", True, ("a", "b"), "names", "0" * 64)
    part = data.subset(np.array([2, 0]))
    np.testing.assert_array_equal(part.images, WHOLE[[2, 0]])
    assert part.labels.tolist() == [2, 3]
    kept = {name: value for name, value in vars(data).items() if name not in ("images", "labels")}
    assert vars(part) == {**kept, "images": part.images, "labels": part.labels}
    masked = data.subset(np.array([True, False, False, True]))
    assert masked.labels.tolist() == [3, 1]
    assert data.without_labels().labels is None and data.without_labels().images is data.images
    assert data.labels.tolist() == LABELS  # itself unchanged


def test_a_dark_part_of_float_images_is_a_part():
    values = np.full(SHAPE, 0.5, np.float32)
    values[0] = 200.5
    part = Dataset(values, LABELS).subset(np.array([1, 2]))
    assert part.images.max() == 0.5 and len(part) == 2
    assert len(part.subset(np.array([], int))) == 0


def test_a_sample_is_drawn_by_its_seed_in_order():
    data = Dataset(np.arange(50)[:, None, None, None].repeat(3, 3), np.arange(50))
    drawn = data.sample(10, 4)
    assert len(drawn) == 10 and (np.diff(drawn.labels) > 0).all()
    np.testing.assert_array_equal(drawn.images[:, 0, 0, 0], drawn.labels)
    assert drawn.labels.tolist() == data.sample(10, 4).labels.tolist()
    assert drawn.labels.tolist() != data.sample(10, 5).labels.tolist()
    assert data.sample(99, 4).labels.tolist() == list(range(50))


def test_pickled_and_replaced_sets_are_the_same():
    data = Dataset(WHOLE, LABELS, "set.h5")
    for other in (pickle.loads(pickle.dumps(data)), replace(data, source="other")):
        np.testing.assert_array_equal(other.images, data.images)
        assert other.labels.tolist() == LABELS
    assert replace(data, labels=[1, 1, 1, 1]).labels.dtype == np.int64
    with pytest.raises(InputError, match="3 labels for 4 images"):
        replace(data, labels=np.arange(3))
