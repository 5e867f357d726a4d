"""Properties of the readers: what was written is read, anything else is refused by name."""

import io
import json
import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from badnet_defense.errors import InputError, UnsafeFileError
from badnet_defense.io import Dataset, read_image, read_images, write_challenge_h5
from badnet_defense.io.trigger_labels import read_trigger_labels
from badnet_defense.nets.parse import parse_model
from badnet_defense.sandbox.pipe import DTYPES, read_frame, write_frame
from badnet_defense.sandbox.serialize import deserialize_net

QUICK = settings(max_examples=60, deadline=None, derandomize=True)
SIDES = st.integers(1, 9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("properties")


def pixels(most):
    shapes = st.tuples(st.integers(1, most), SIDES, SIDES, st.sampled_from([1, 3]))
    return shapes.flatmap(lambda shape: hnp.arrays(np.uint8, shape))


@QUICK
@given(pictures=pixels(4), labelled=st.booleans(), half=st.booleans(), data=st.data())
def test_challenge_files_round_trip(folder, pictures, labelled, half, data):
    if half:  # values that are not whole stay so
        pictures = np.minimum(pictures + np.float32(0.5), 255).astype(np.float32)
        pictures.flat[0] = 200.5
    labels = None
    if labelled:
        labels = data.draw(hnp.arrays(np.int64, len(pictures), elements=st.integers(0, 6)))
    path = folder / "set.h5"
    write_challenge_h5(path, Dataset(pictures, labels, "here"))
    found = read_images(path, shape=pictures.shape[1:], classes=7)
    np.testing.assert_array_equal(found.images, pictures)
    assert found.images.dtype == pictures.dtype
    assert (found.labels is None) == (not labelled)
    if labelled:
        np.testing.assert_array_equal(found.labels, labels)


@QUICK
@given(pictures=pixels(1))
def test_png_pictures_round_trip(folder, pictures):
    (picture,) = pictures
    path = folder / "one.png"
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(path)
    np.testing.assert_array_equal(read_image(path, picture.shape), picture)


WRITERS = {
    "json": lambda truth: json.dumps(truth).encode(),
    "csv": lambda truth: "\n".join(map(str, truth)).encode(),
    "pkl": pickle.dumps,
    "npy": lambda truth: _saved(np.array(truth)),
}


def _saved(array):
    with io.BytesIO() as content:
        np.save(content, array)
        return content.getvalue()


@QUICK
@given(
    truth=st.lists(st.booleans(), min_size=1, max_size=30), ending=st.sampled_from(list(WRITERS))
)
def test_trigger_labels_round_trip(folder, truth, ending):
    path = folder / f"labels.{ending}"
    path.write_bytes(WRITERS[ending](truth))
    assert read_trigger_labels(path, len(truth)).tolist() == truth


@QUICK
@given(
    content=st.binary(max_size=200) | st.from_type(type(None)).map(lambda _: b""),
    ending=st.sampled_from([*WRITERS, "h5", "png"]),
)
def test_any_bytes_are_a_result_or_a_refusal(folder, content, ending):
    path = folder / f"any.{ending}"
    path.write_bytes(content)
    try:
        if ending in WRITERS:
            read_trigger_labels(path, 2)
        else:
            read_images(path, shape=(4, 4, 3))
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error)


ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, max_side=4))
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)


@QUICK
@given(plain=PLAIN, arrays=st.lists(ARRAYS, max_size=3))
def test_frames_round_trip(plain, arrays):
    read_end, write_end = os.pipe()
    try:
        write_frame(write_end, plain, arrays)
        os.close(write_end)
        found, others = read_frame(read_end, 10_000)
    finally:
        os.close(read_end)
    assert found == json.loads(json.dumps(plain))
    for one, other in zip(arrays, others, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        np.testing.assert_array_equal(one, other)


KEYS = ["class_name", "config", "layers", "name", "inbound_nodes", "input_layers", "output_layers",
        "module", "registered_name", "batch_shape", "calls", "output", "attributes"]  # fmt: skip
WORDS = ["Sequential", "Functional", "Conv2D", "InputLayer", "Dense", "Lambda", "a"]
NETS = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70_000) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=25,
)


@settings(QUICK, max_examples=300)
@given(document=NETS)
def test_any_document_is_refused_by_the_house_s_own_errors(document):
    for read in (parse_model, lambda one: deserialize_net(one, [])):
        with pytest.raises(UnsafeFileError):
            read(document)
