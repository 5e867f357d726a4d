"""A trigger under inversion: shifted, from tanh space, smoothed and stamped."""

import numpy as np
from plain_inversion import plain_shift
from small_nets import SHAPE

from badnet_defense.evaluation.stamping import stamp
from badnet_defense.scan.trigger_inversion import from_tanh_space, shift


def test_moved_is_a_shift_that_lets_zeros_in():
    rng = np.random.default_rng(0)
    mask = rng.random((2, *SHAPE[:2], 1), dtype=np.float32)
    pattern = rng.random((2, *SHAPE), dtype=np.float32)
    for offset in [(0, 0), (2, 3), (-2, -3), (-2, 3), (1, 0), (0, -1)]:
        found = shift(mask, pattern, np.array(offset, np.int32), (2, 3))
        for place in range(2):
            for got, array in zip(found, (mask, pattern), strict=True):
                np.testing.assert_array_equal(got[place], plain_shift(array[place], *offset))


def test_opened_lies_between_0_and_1():
    np.testing.assert_allclose(
        from_tanh_space(np.array([-50.0, 0, np.arctanh(0.5), 50])), [0, 0.5, 0.75, 1], atol=1e-12
    )


def test_stamp_by_hand():
    pictures = np.array([[[[10, 200]], [[40, 80]]]], np.uint8)  # one picture, 2x1, two channels
    mask = np.array([[[0.25]], [[1.0]]])
    pattern = np.array([[[1.0, 0.0]], [[0.5, 0.2]]])
    stamped = stamp(pictures, mask, pattern)
    expected = [[[[10 * 0.75 + 255 * 0.25, 150]], [[127.5, 51]]]]
    np.testing.assert_allclose(stamped, expected, rtol=1e-6)
    assert stamped.dtype == np.float32 and pictures[0, 0, 0, 0] == 10


def test_stamping_nothing_and_everything():
    pictures = np.random.default_rng(0).integers(0, 256, (3, *SHAPE)).astype(np.uint8)
    pattern = np.random.default_rng(1).random(SHAPE)
    none, whole = np.zeros((*SHAPE[:2], 1)), np.ones((*SHAPE[:2], 1))
    np.testing.assert_array_equal(stamp(pictures, none, pattern), pictures)
    for stamped in stamp(pictures, whole, pattern):
        np.testing.assert_allclose(stamped, 255 * pattern, rtol=1e-6)


def plain_mean(array, down, right):
    """(h, w, c), each pixel the mean of those at most so far away that are there."""
    result = np.zeros_like(array)
    for row in range(array.shape[0]):
        for column in range(array.shape[1]):
            rows = slice(max(row - down, 0), row + down + 1)
            columns = slice(max(column - right, 0), column + right + 1)
            result[row, column] = array[rows, columns].mean(axis=(0, 1))
    return result


def test_smooth_triggers_are_means_of_what_is_around():
    array = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    found = from_tanh_space(array, (1, 2))
    for place in range(2):
        expected = plain_mean((np.tanh(array[place]) + 1) / 2, 1, 2)
        np.testing.assert_allclose(found[place], expected, rtol=1e-5)
    np.testing.assert_array_equal(
        from_tanh_space(np.full_like(array, 50.0), (1, 2)), np.ones_like(array)
    )
