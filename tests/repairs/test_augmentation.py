"""Changes of tuning pictures, worked out by hand."""

import numpy as np
from small_nets import images

from badnet_defense.repairs.augmentation import (
    MOST_OPAQUE,
    erased,
    light_changes,
    patterned,
    shifted,
)


class Draws:
    """A generator whose draws are given."""

    def __init__(self, *draws):
        self.draws = [np.array(one) for one in draws]

    def integers(self, low, high, size):
        return self.draws.pop(0)

    def uniform(self, low=0, high=1, size=None):
        return self.draws.pop(0)


def test_shift_by_hand():
    """A 4x5 picture with room for one pixel each way (share 0.25 of 4, 0.2 of 5)."""
    picture = np.arange(20, dtype=np.uint8).reshape(1, 4, 5, 1)
    down_right, up_left, still = (
        shifted(picture, 0.25, Draws([row], [column]))[0, ..., 0]
        for row, column in ((0, 0), (2, 2), (1, 1))
    )
    assert still.tolist() == picture[0, ..., 0].tolist()
    assert down_right[0].tolist() == [0, 0, 1, 2, 3]  # moved down and right, edges repeated
    assert down_right[1].tolist() == [0, 0, 1, 2, 3]
    assert down_right[3].tolist() == [10, 10, 11, 12, 13]
    assert up_left[0].tolist() == [6, 7, 8, 9, 9]
    assert up_left[3].tolist() == [16, 17, 18, 19, 19]


def test_each_picture_is_shifted_for_itself_and_as_a_whole():
    pictures = images(30).images
    moved = shifted(pictures, 0.2, np.random.default_rng(0))  # 2 of 12 rows, 2 of 10 columns
    found = set()
    for old, new in zip(pictures, moved, strict=True):
        padded = np.pad(old, ((2, 2), (2, 2), (0, 0)), mode="edge")
        places = [
            (row, column)
            for row in range(5)
            for column in range(5)
            if (padded[row : row + 12, column : column + 10] == new).all()
        ]
        assert places
        found.update(places)
    assert moved.dtype == np.uint8 and len(found) > 10


def test_no_shift_leaves_pictures_alone():
    pictures = images(3).images
    assert shifted(pictures, 0.01, np.random.default_rng(0)) is pictures


def test_light_by_hand():
    """Contrast 1.2 about 127.5 and brightness +0.05 of 255; then the darkest of both."""
    gain, offset = light_changes(2, 0.2, Draws([1.0, -1.0], [0.5, -1.0]))
    assert gain.shape == offset.shape == (2, 1, 1, 1) and gain.dtype == np.float32
    np.testing.assert_allclose(gain.ravel(), [1.2, 0.8], rtol=1e-6)
    np.testing.assert_allclose(offset.ravel(), [-25.5 + 12.75, 25.5 - 25.5], atol=1e-4)
    gain, offset = light_changes(5, 0.0, np.random.default_rng(0))
    assert (gain == 1).all() and (offset == 0).all()


def test_erased_rectangle_is_one_colour_and_the_rest_is_untouched():
    pictures = images(200, seed=4).images
    marked = erased(pictures, 0.5, np.random.default_rng(0))
    assert marked.dtype == np.uint8 and marked.shape == pictures.shape
    changed = (marked != pictures).any(axis=-1)
    touched = np.flatnonzero(changed.any(axis=(1, 2)))
    assert 60 < len(touched) < 140  # about half of them
    for index in touched:
        rows, columns = (np.flatnonzero(changed[index].any(axis=axis)) for axis in (1, 0))
        box = marked[index, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert (box == box[0, 0]).all()
        assert box[..., 0].size <= 0.35 * 120  # a quarter at most, and rounding


def test_patterns_are_faint_mosaics_over_some_pictures():
    grey = np.full((300, 16, 12, 3), 100, np.uint8)
    marked = patterned(grey, 0.5, np.random.default_rng(0))
    assert marked.dtype == np.uint8 and marked.shape == grey.shape
    moved = marked.astype(float) - 100
    touched = np.abs(moved).max(axis=(1, 2, 3)) > 0
    assert 110 < touched.sum() < 190
    assert moved.min() >= -100 * MOST_OPAQUE and moved.max() <= 155 * MOST_OPAQUE + 0.5
    colours = [len(np.unique(one.reshape(-1, 3), axis=0)) for one in marked[touched]]
    assert min(colours) <= 6 and max(colours) > 80  # from a few large squares to single pixels
    whole = [
        one for one in marked[touched] if (one[0] == one[1]).all() and (one[8] != one[0]).any()
    ]
    for one in whole:  # squares: what a row of them repeats
        edges = np.flatnonzero((one[1:] != one[:-1]).any(axis=(1, 2)))
        assert np.ptp(np.diff(edges)) <= 1 if len(edges) > 1 else True
    plain = patterned(grey, 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(plain, grey)
