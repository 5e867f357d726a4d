"""Trigger labels from each format; a pickle is read without running anything in it."""

import io
import json
import pickle

import numpy as np
import pytest

from badnet_defense.errors import InputError
from badnet_defense.io import read_trigger_labels
from badnet_defense.io.trigger_labels import write_trigger_labels

TRUTH = [True, False, False, True, True]


def refusal(path, count=5):
    with pytest.raises(InputError) as caught:
        read_trigger_labels(path, count)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def check(path):
    labels = read_trigger_labels(path, 5)
    assert labels.dtype == bool
    assert labels.tolist() == TRUTH


@pytest.mark.parametrize("dtype", [bool, np.int64, np.float32])
def test_npy(tmp_path, dtype):
    np.save(tmp_path / "labels.npy", np.array(TRUTH, dtype))
    check(tmp_path / "labels.npy")
    np.save(tmp_path / "labels.npy", np.array(TRUTH, dtype)[:, None])
    check(tmp_path / "labels.npy")


@pytest.mark.parametrize(
    "text",
    [
        "True\nFalse\nFalse\nTrue\nTrue\n",
        "1\r\n0\r\n0\r\n1\r\n1",
        "triggered\ntrue\nFALSE\nfalse\nTrue\n1\n\n",
        "\ufeffTrue\nFalse\n0\n1.0\nTrue\n",
        "True, False, False, True, True\n",
        "1,0,0,1,1,",
    ],
)
def test_csv(tmp_path, text):
    (tmp_path / "labels.csv").write_text(text, "utf-8")
    check(tmp_path / "labels.csv")


def test_csv_as_numpy_writes_it(tmp_path):
    np.savetxt(tmp_path / "labels.csv", TRUTH)
    check(tmp_path / "labels.csv")


def test_json(tmp_path):
    (tmp_path / "labels.json").write_text("[true, false, 0, 1, true]")
    check(tmp_path / "labels.json")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(tmp_path, protocol):
    for values in (TRUTH, [int(value) for value in TRUTH]):
        (tmp_path / "labels.pkl").write_bytes(pickle.dumps(values, protocol))
        check(tmp_path / "labels.pkl")
    long = TRUTH * 1000  # several batches of APPENDS
    (tmp_path / "labels.pkl").write_bytes(pickle.dumps(long, protocol))
    assert read_trigger_labels(tmp_path / "labels.pkl", 5000).tolist() == long


class Touch:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_in_a_pickle_runs(tmp_path, protocol):
    path, trace = tmp_path / "labels.pkl", tmp_path / "trace"
    path.write_bytes(pickle.dumps([True, Touch(trace)], protocol))
    message = refusal(path, 2)
    assert "no trigger labels" in message
    assert "GLOBAL" in message or "UNICODE" in message
    assert not trace.exists()


def test_pickled_persistent_references_and_arrays_are_refused(tmp_path):
    class Persistent(pickle.Pickler):
        def persistent_id(self, value):
            return "elsewhere" if value == "x" else None

    stream = io.BytesIO()
    Persistent(stream).dump(["x"])
    for content in (stream.getvalue(), pickle.dumps(np.array(TRUTH)), pickle.dumps(np.bool_(True))):
        (tmp_path / "labels.pkl").write_bytes(content)
        message = refusal(tmp_path / "labels.pkl")
        assert "expected a plain list with True or False for each image" in message


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(True),
        pickle.dumps([[True, False]]),
        pickle.dumps({"labels": TRUTH}),
        pickle.dumps([True, 2]),
        pickle.dumps(TRUTH)[:-3],
        b"",
        b"not a pickle",
        b"\x80\x02]\x88\x89.",  # values beside a list, not in it
        b"\x80\x02\x88\x89]e.",
        b"\x80\x02\x88a.",
        b"\x80\x02(e.",
        b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"x",
    ],
)
def test_other_pickles_are_refused(tmp_path, content):
    (tmp_path / "labels.pkl").write_bytes(content)
    message = refusal(tmp_path / "labels.pkl", 2)
    assert "expected a plain list with True or False for each image" in message


def test_a_pickle_cannot_take_all_memory(tmp_path):
    (tmp_path / "labels.pkl").write_bytes(b"\x80\x02]r\xff\xff\xff\x7f\x88a.")
    assert read_trigger_labels(tmp_path / "labels.pkl", 1).tolist() == [True]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.csv", "True\nmaybe\n"),
        ("labels.csv", "2\n3\n"),
        ("labels.csv", "0,True\n1,False\n"),
        ("labels.csv", "nan\nnan\n"),
        ("labels.csv", "1\n0_1\n"),
        ("labels.csv", "1\n\u0661\n"),
        ("labels.json", '{"labels": [true, false]}'),
        ("labels.json", "[true, null]"),
        ("labels.json", "[true, [false]]"),
        ("labels.json", "[true"),
        ("labels.json", "[" * 100_000),
        ("labels.npy", "not an array"),
    ],
)
def test_other_contents_are_refused(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    message = refusal(tmp_path / name, 2)
    assert "expected a plain list with True or False for each image" in message


def test_arrays_of_objects_or_other_shapes_are_refused(tmp_path):
    path = tmp_path / "labels.npy"
    for values in (np.array([True, None], object), np.ones((2, 2)), np.array(True), [0.5, 1]):
        np.save(path, values)
        assert "no trigger labels" in refusal(path, 2)


def test_an_array_that_promises_more_than_the_file_holds_is_refused(tmp_path):
    path = tmp_path / "labels.npy"
    np.save(path, np.ones(2, np.int64))
    path.write_bytes(path.read_bytes().replace(b"(2,), }" + b" " * 10, b"(99999999999,), }"))
    assert b"9999" in path.read_bytes()
    assert "no trigger labels" in refusal(path, 2)


def test_another_length_is_refused(tmp_path):
    (tmp_path / "labels.json").write_text(json.dumps(TRUTH))
    message = refusal(tmp_path / "labels.json", 7)
    assert "5 trigger labels for 7 images, expected one each" in message


def test_other_files_are_refused(tmp_path):
    absent = refusal(tmp_path / "absent.pkl")
    assert "no such file, expected True or False for each image" in absent
    (tmp_path / "labels.txt").write_text("True")
    message = refusal(tmp_path / "labels.txt")
    assert "end in '.txt', expected .npy, .csv, .json or .pkl" in message


def test_what_is_written_is_read_back(tmp_path):
    triggered = np.array([True, False, True])
    write_trigger_labels(tmp_path / "labels.npy", triggered)
    np.testing.assert_array_equal(read_trigger_labels(tmp_path / "labels.npy", 3), triggered)
