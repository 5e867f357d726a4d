"""Plain values and arrays through a pipe, from a sender who may say anything."""

import os
import struct

import numpy as np
import pytest

from badnet_defense.errors import ReaderError
from badnet_defense.sandbox.pipe import MAX_HEAD, read_frame, write_frame


def answered(content, most=1000):
    """What is read of `content` from a pipe."""
    read_end, write_end = os.pipe()
    try:
        os.write(write_end, content)
        os.close(write_end)
        return read_frame(read_end, most)
    finally:
        os.close(read_end)


def head(text):
    return struct.pack("<Q", len(text)) + text.encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "ended too early"),
        (struct.pack("<Q", MAX_HEAD + 1), "bytes of description"),
        (head("no json"), "invalid reply"),
        (head("[1]"), "invalid reply"),
        (head('{"plain": 1}'), "invalid reply"),
        (head('{"plain": {}, "arrays": [["object", [2]]]}'), "invalid reply"),
        (head('{"plain": {}, "arrays": [["uint8", [-2]]]}'), "invalid reply"),
        (head('{"plain": {}, "arrays": [["uint8", [true]]]}'), "invalid reply"),
        (head('{"plain": {}, "arrays": [["uint8", [1, 1, 1, 1, 1]]]}'), "invalid reply"),
        (head('{"plain": {}, "arrays": [["uint8", [1001, 0]]]}'), "invalid reply"),
        (head('{"plain": {}, "arrays": [["float32", [10, 26]]]}'), "more than 1,000 bytes"),
        (head("[" * 100)[:50], "ended too early"),
        (head('{"plain": {}, "arrays": [["uint8", [9]]]}') + b"short", "ended too early"),
        (head("[" * 30_000), "invalid reply"),
    ],
)
def test_answers_that_no_reader_gives(content, words):
    with pytest.raises(ReaderError, match=words):
        answered(content)


def test_arrays_come_through_a_pipe():
    given = [np.arange(6, dtype=np.int64).reshape(2, 3), np.float32([0.5]), np.zeros((0, 4), "u1")]
    read_end, write_end = os.pipe()
    write_frame(write_end, {"a": [1, "b"]}, given)
    os.close(write_end)
    plain, found = read_frame(read_end, 100)
    os.close(read_end)
    assert plain == {"a": [1, "b"]}
    for one, other in zip(given, found, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
