"""The challenge's HDF5 files: what is read, how much memory it takes, and what is refused."""

import tracemalloc

import h5py
import numpy as np
import pytest
from directions import assert_directions, directions
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from badnet_defense.errors import InputError
from badnet_defense.io import Dataset, read_challenge_h5, read_images, write_challenge_h5


def write(path, data, label=None):
    with h5py.File(path, "w") as file:
        file["data"] = data
        if label is not None:
            file["label"] = label
    return path


def pixels(count=4, channels=3, height=5, width=6, dtype=np.uint8, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (count, channels, height, width))
    return values.astype(dtype)


def refusal(path, **settings):
    with pytest.raises(InputError) as caught:
        read_challenge_h5(path, **settings)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message


@pytest.mark.parametrize("dtype", ["u1", "i2", ">i4", "u8", "i8", "f2", "f4", "f8", ">f8"])
def test_every_number_type_gives_the_same_bytes_with_channels_last(tmp_path, dtype):
    values = pixels(dtype=dtype)
    images = read_challenge_h5(write(tmp_path / "set.h5", values, np.arange(4)), shape=(5, 6, 3))
    assert images.images.dtype == np.uint8
    assert images.images.shape == (4, 5, 6, 3)
    assert images.images[2, 1, 4, 0] == values[2, 0, 1, 4]
    np.testing.assert_array_equal(images.images, np.moveaxis(values, 1, 3))
    assert images.labels.tolist() == [0, 1, 2, 3]
    assert images.source == str(tmp_path / "set.h5")


@pytest.mark.parametrize("shape", [(5, 8, 3), (9, 4, 3)])
def test_left_stays_left_and_up_stays_up(tmp_path, shape):
    picture = directions(*shape[:2])
    path = write(tmp_path / "set.h5", picture.transpose(2, 0, 1)[None])
    assert_directions(read_challenge_h5(path, shape=shape).images[0])
    write_challenge_h5(tmp_path / "again.h5", Dataset(picture[None], np.array([0])))
    with h5py.File(tmp_path / "again.h5") as file:
        red, green, _ = file["data"][0]
    assert (red == (np.arange(shape[1]) >= shape[1] // 2) * 255).all()
    assert ((np.arange(shape[0]) >= shape[0] // 2) * 255 == green.T).all()


@settings(max_examples=40, deadline=None)
@given(
    pictures=st.sampled_from(["u1", "f4"]).flatmap(
        lambda dtype: st_numpy.arrays(
            dtype,
            st.tuples(
                st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3])
            ),
            elements=st.integers(0, 255) if dtype == "u1" else st.floats(1.5, 255, width=32),
        )
    ),
    labelled=st.booleans(),
    synthetic=st.booleans(),
)
def test_what_is_written_is_read_again(tmp_path_factory, pictures, labelled, synthetic):
    path = tmp_path_factory.mktemp("round") / "set.h5"
    labels = np.arange(len(pictures)) if labelled else None
    write_challenge_h5(path, Dataset(pictures, labels, synthetic=synthetic))
    images = read_challenge_h5(path)
    np.testing.assert_array_equal(images.images, pictures)
    assert images.synthetic is synthetic
    np.testing.assert_array_equal(images.labels, labels)


def test_the_written_file_has_the_challenge_layout(tmp_path):
    path = tmp_path / "new folder" / "set.h5"
    images = Dataset(np.moveaxis(pixels(), 1, 3), np.array([3, 1, 0, 2]), synthetic=True)
    write_challenge_h5(path, images, attributes={"seed": 7})
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["data"][()], pixels())
        assert file["label"].dtype == np.int64
        assert file.attrs["synthetic"]
        assert file.attrs["seed"] == 7
    assert [entry.name for entry in path.parent.iterdir()] == ["set.h5"]


def test_an_interrupted_write_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = write(tmp_path / "set.h5", pixels(), np.arange(4))
    before = path.read_bytes()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("badnet_defense.io.hdf5.np.ascontiguousarray", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_challenge_h5(path, Dataset(np.zeros((1, 5, 6, 3), np.uint8)))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["set.h5"]


def test_a_late_value_that_is_not_whole_keeps_what_was_read_before(tmp_path):
    values = pixels(count=1500, dtype=np.float64)
    values[1400, 2, 3, 1] = 0.5
    images = read_challenge_h5(write(tmp_path / "set.h5", values))
    assert images.images.dtype == np.float32
    np.testing.assert_array_equal(images.images, np.moveaxis(values, 1, 3).astype(np.float32))


@pytest.mark.parametrize("chunk", [(7, 3, 5, 6), (700, 1, 2, 6), (1500, 3, 5, 6)])
def test_packed_files_are_read_whole(tmp_path, chunk):
    values = pixels(count=1500)
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file.create_dataset("data", data=values, chunks=chunk, compression="gzip")
    images = read_challenge_h5(tmp_path / "set.h5")
    np.testing.assert_array_equal(images.images, np.moveaxis(values, 1, 3))


def test_a_float64_file_is_never_held_as_float64(tmp_path):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", (645, 3, 55, 47), np.float64)
        data[:] = 200
    size = path.stat().st_size
    assert size > 40e6
    tracemalloc.start()
    try:
        images = read_challenge_h5(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert images.images.min() == images.images.max() == 200
    assert peak < images.images.nbytes + 0.25 * size


def test_labels_may_be_a_column_or_whole_floats_or_absent(tmp_path):
    column = write(tmp_path / "column.h5", pixels(), np.array([[3], [0], [2], [1]]))
    assert read_challenge_h5(column).labels.tolist() == [3, 0, 2, 1]
    floats = read_challenge_h5(write(tmp_path / "float.h5", pixels(), np.array([3.0, 0, 2, 1])))
    assert floats.labels.dtype == np.int64
    assert floats.labels.tolist() == [3, 0, 2, 1]
    assert read_challenge_h5(write(tmp_path / "none.h5", pixels())).labels is None


def test_one_channel_files_suit_a_net_that_takes_one(tmp_path):
    path = write(tmp_path / "grey.h5", pixels(channels=1))
    assert read_challenge_h5(path, shape=(5, 6, 1)).images.shape == (4, 5, 6, 1)
    message = refusal(path, shape=(5, 6, 3))
    assert "1 channels, expected 3" in message


def test_labels_outside_the_nets_classes_are_refused(tmp_path):
    path = write(tmp_path / "clean.h5", pixels(), np.array([0, 1290, 3, 4]))
    assert refusal(path, classes=1283) == (
        f"{path}: labels run to 1290, but the net has 1283 classes (0..1282). "
        "Is this the net's own data set?"
    )
    write(path, pixels(), np.array([0, -1, 3, 4]))
    assert "start at -1, expected class numbers from 0" in refusal(path)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (np.array([0, 1.5, 2, 3]), "labels hold 1.5, expected whole numbers"),
        (np.array([0, np.nan, 2, 3]), "labels hold nan, expected whole numbers"),
        (np.array([0, np.inf, 2, 3]), "labels hold inf, expected whole numbers"),
        (np.array([b"a", b"b", b"c", b"d"]), "`label` has dtype |S1, expected numbers"),
        (np.eye(4), "labels have shape (4, 4), as one-hot labels have, expected one class"),
        (np.zeros((4, 2, 1)), "labels have shape (4, 2, 1), expected (4,)"),
        (np.array(3), "labels have shape (), expected (4,)"),
        (np.arange(3), "3 labels for 4 images, expected one each"),
        (np.array([0, 2**63 + 5, 1, 2], np.uint64), "expected class numbers from 0"),
    ],
)
def test_labels_that_are_no_labels_are_refused(tmp_path, label, expected):
    assert expected in refusal(write(tmp_path / "set.h5", pixels(), label))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (np.nan, "NaN or infinite pixels, expected 0-255"),
        (np.inf, "NaN or infinite pixels, expected 0-255"),
        (-1, "pixels run from -1 to"),
        (256, "to 256, expected 0-255"),
    ],
)
def test_pixels_outside_0_to_255_are_refused(tmp_path, change, expected):
    values = pixels(dtype=np.float64)
    values[3, 2, 4, 5] = change
    assert expected in refusal(write(tmp_path / "set.h5", values))
    if np.isfinite(change):
        assert expected in refusal(write(tmp_path / "set.h5", values.astype(np.int32)))


def test_pixels_scaled_to_0_to_1_are_named_as_such(tmp_path):
    message = refusal(write(tmp_path / "set.h5", pixels() / 255.0))
    assert "between 0 and 1, expected 0-255; multiply them by 255" in message


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (np.zeros((4, 5, 6), np.uint8), "shape (4, 5, 6), expected (n, channels, h, w)"),
        (np.zeros((4, 5, 6, 3), np.uint8), "5 channels, expected 3"),
        (np.zeros((4, 4, 5, 6), np.uint8), "4 channels, expected 3"),
        (np.zeros((4, 3, 9, 6), np.uint8), "9x6 (height x width), but the net takes 5x6"),
        (np.zeros((0, 3, 5, 6), np.uint8), "no images, expected some"),
        (np.zeros((4, 3, 5, 6), "c8"), "`data` has dtype complex64, expected numbers"),
        (np.zeros((4, 3, 5, 6), bool), "`data` has dtype bool, expected numbers"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(tmp_path, data, expected):
    assert expected in refusal(write(tmp_path / "set.h5", data), shape=(5, 6, 3))


def test_channels_last_files_are_told_to_transpose(tmp_path):
    message = refusal(write(tmp_path / "set.h5", np.zeros((4, 5, 6, 3), np.uint8)))
    assert "(n, h, w, channels) must be transposed" in message


def test_missing_keys_are_refused(tmp_path):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        file["images"] = pixels()
    assert "`data` is missing, expected `data` and `label`; found images" in refusal(path)
    write(path, pixels())
    assert "`label` is missing" in refusal(path, need_labels=True)


def test_read_images_reads_hdf5_by_its_name(tmp_path):
    path = write(tmp_path / "set.hdf5", pixels(), np.arange(4))
    assert read_images(path, shape=(5, 6, 3), classes=4).labels.tolist() == [0, 1, 2, 3]
    with pytest.raises(InputError, match="but the net has 3 classes"):
        read_images(path, shape=(5, 6, 3), classes=3)
    write(path, pixels())
    with pytest.raises(InputError, match="`label` is missing"):
        read_images(path, shape=(5, 6, 3), need_labels=True)


def test_more_pictures_than_memory_holds_are_refused(tmp_path, monkeypatch):
    def full(*_):
        raise MemoryError

    path = write(tmp_path / "set.h5", pixels())
    monkeypatch.setattr("badnet_defense.io.hdf5.np.empty", full)
    assert "do not fit into memory, expected fewer or smaller ones" in refusal(path)
