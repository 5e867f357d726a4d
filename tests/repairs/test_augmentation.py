"""Changes of tuning pictures, worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from small_nets import images

from badnet_defense.io import Dataset
from badnet_defense.repairs.augmentation import (
    MAX_OPACITY,
    draw_brightness_contrast,
    random_erasing,
    random_mosaic,
    random_shift,
)
from badnet_defense.repairs.batches import augmented_batches
from badnet_defense.repairs.recipes import RECIPES


class Draws:
    """A generator whose draws are given, as fractions of the way from the least to the largest."""

    def __init__(self, *draws):
        self.draws = [np.array(one, float) for one in draws]

    def integers(self, low, high, size, dtype=int):
        return np.floor(self.uniform(low, high, size)).astype(dtype)

    def uniform(self, low=0, high=1, size=None):
        drawn = self.draws.pop(0)
        assert drawn.shape == np.empty(size).shape
        return low + drawn * (high - low)


def test_shift_by_hand():
    """A 4x5 picture with room for one pixel each way (share 0.25 of 4, 0.2 of 5)."""
    picture = np.arange(20, dtype=np.uint8).reshape(1, 4, 5, 1)
    down_right, up_left, still = (
        random_shift(picture, 0.25, Draws([row], [column]))[0, ..., 0]
        for row, column in ((0, 0), (0.9, 0.9), (0.5, 0.5))
    )
    assert still.tolist() == picture[0, ..., 0].tolist()
    assert down_right[0].tolist() == [0, 0, 1, 2, 3]  # moved down and right, edges repeated
    assert down_right[1].tolist() == [0, 0, 1, 2, 3]
    assert down_right[3].tolist() == [10, 10, 11, 12, 13]
    assert up_left[0].tolist() == [6, 7, 8, 9, 9]
    assert up_left[3].tolist() == [16, 17, 18, 19, 19]


def test_the_largest_shifts_by_hand():
    """Three rows of 12 and one column of 4; none of 3 rows and three of 60 columns."""
    rows = np.arange(12, dtype=np.uint8).repeat(4).reshape(1, 12, 4, 1)
    up, down = (random_shift(rows, 0.25, Draws([draw], [0]))[0, :, 0, 0] for draw in (0.999, 0))
    assert up.tolist() == [*range(3, 12), 11, 11, 11]
    assert down.tolist() == [0, 0, 0, *range(9)]
    columns = np.tile(np.arange(60, dtype=np.uint8), 3).reshape(1, 3, 60, 1)
    left = random_shift(columns, 0.05, Draws([0.999], [0.999]))[0, 0, :, 0]
    assert left.tolist() == [*range(3, 60), 59, 59, 59]


def test_each_picture_is_shifted_for_itself_and_as_a_whole():
    pictures = images(30).images
    moved = random_shift(pictures, 0.2, np.random.default_rng(0))  # 2 of 12 rows, 2 of 10 columns
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
    assert random_shift(pictures, 0.01, np.random.default_rng(0)) is pictures


def test_light_by_hand():
    """Contrast 1.2 about 127.5 and brightness +0.05 of 255; then 0.9, and the darkest."""
    gain, offset = draw_brightness_contrast(2, 0.2, Draws([1, 0.25], [0.75, 0]))
    assert gain.shape == offset.shape == (2, 1, 1, 1) and gain.dtype == np.float32
    np.testing.assert_allclose(gain.ravel(), [1.2, 0.9], rtol=1e-6)
    np.testing.assert_allclose(offset.ravel(), [-25.5 + 12.75, 12.75 - 25.5], atol=1e-4)
    gain, offset = draw_brightness_contrast(5, 0.0, np.random.default_rng(0))
    assert (gain == 1).all() and (offset == 0).all()


def test_erased_rectangle_is_one_colour_and_the_rest_is_untouched():
    pictures = images(200, seed=4).images
    marked = random_erasing(pictures, 0.5, np.random.default_rng(0))
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
    marked = random_mosaic(grey, 0.5, np.random.default_rng(0))
    assert marked.dtype == np.uint8 and marked.shape == grey.shape
    moved = marked.astype(float) - 100
    touched = np.abs(moved).max(axis=(1, 2, 3)) > 0
    assert 110 < touched.sum() < 190
    assert moved.min() >= -100 * MAX_OPACITY and moved.max() <= 155 * MAX_OPACITY + 0.5
    colours = [len(np.unique(one.reshape(-1, 3), axis=0)) for one in marked[touched]]
    assert min(colours) <= 6 and max(colours) > 80  # from a few large squares to single pixels
    whole = [
        one for one in marked[touched] if (one[0] == one[1]).all() and (one[8] != one[0]).any()
    ]
    for one in whole:  # squares: what a row of them repeats
        edges = np.flatnonzero((one[1:] != one[:-1]).any(axis=(1, 2)))
        assert np.ptp(np.diff(edges)) <= 1 if len(edges) > 1 else True
    plain = random_mosaic(grey, 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(plain, grey)


def test_patterns_by_hand():
    """Squares of 2 pixels, a quarter opaque, over a grey picture; the second one stays as it is."""
    grey = np.full((2, 4, 3, 1), 87, np.uint8)
    colours = np.arange(24).reshape(2, 4, 3, 1) * 10 / 256
    # 5/6 of 0.3 is 0.25; half way from 1 to 4 pixels is 2 on a logarithmic scale.
    draws = Draws([5 / 6, 5 / 6], [0.1, 0.5], [0.499, 0.499], colours)
    first, second = random_mosaic(grey, 0.5, draws)[..., 0].tolist()
    # The mosaic's upper left squares have the colours 0 and 10, the next ones 30 and 40.
    upper, lower = [65, 65, 68], [73, 73, 75]  # 87 + (colour - 87) / 4
    assert first == [upper, upper, lower, lower]
    assert second == [[87] * 3] * 4


def test_a_pattern_is_at_most_three_tenths_opaque():
    black = np.zeros((400, 6, 6, 3), np.uint8)
    marked = random_mosaic(black, 1.0, np.random.default_rng(0))
    assert 0.29 * 255 < marked.max() <= 0.3 * 255 + 0.5


def test_erased_by_hand():
    """Half way from 0.02 to 0.25 is 0.135 of the picture's 16 pixels: 2 by 1 of them."""
    pictures = np.full((2, 4, 4, 1), 50, np.uint8)
    draws = Draws(
        *([0.5, 0.5], [0.1, 0.5], [0.8, 0.8]),  # area; which pictures; rows to columns
        *([0.5, 0.0], [0.99, 0.0]),  # the first row and column
        np.array([200, 7]).reshape(2, 1, 1, 1) / 256,
    )
    first, second = random_erasing(pictures, 0.5, draws)[..., 0].tolist()
    assert first == [[50] * 4, [50, 50, 50, 200], [50, 50, 50, 200], [50] * 4]
    assert second == [[50] * 4] * 4


@pytest.mark.parametrize(
    ("area", "aspect", "rows", "columns", "drawn", "colour"),
    [
        (0, 0.5, 14, 14, 0, 0),  # 0.02 of the picture: 0.141 squared
        (1, 0.5, 50, 50, 0.999, 255),  # 0.25
        (1, 0, 27, 91, 0.5, 128),  # 0.3 rows to a column: 0.274 by 0.913
        (1, 1, 91, 27, 0.5, 128),
    ],
)
def test_the_smallest_and_the_largest_rectangles(area, aspect, rows, columns, drawn, colour):
    draws = Draws([area], [0], [aspect], [0], [0], np.full((1, 1, 1, 1), drawn))
    (found,) = random_erasing(np.full((1, 100, 100, 1), 9, np.uint8), 0.5, draws)[..., 0]
    expected = np.full((100, 100), 9)
    expected[:rows, :columns] = colour
    np.testing.assert_array_equal(found, expected)


# Batches -----------------------------------------------------------------------------------------

CHANGES = ("shift", "light", "erase", "pattern")
RAMP = np.arange(24 * 40, dtype=np.float32).reshape(1, 24, 40, 1) / 4


def ramps(count=30):
    """`Dataset` of one ramp each, which every shift changes; labels name the picture."""
    pictures = (RAMP + np.arange(count)[:, None, None, None] / 2).astype(np.uint8)
    return Dataset(pictures, np.arange(count))


def batches(changed, *, steps=4, seed=0):
    """All batches of an epoch with the default recipe's change of one name alone."""
    still = {name: 0.0 for name in CHANGES if name != changed}
    recipe = replace(RECIPES["default"], **still)
    found = ramps()
    rng = np.random.default_rng(seed)
    return list(augmented_batches(found, found.labels * 10, recipe, steps, rng))


def changed_share(changed):
    """Shares of the pictures whose pixels, and whose light, are not as they were."""
    pixels, light = [], []
    for pictures, gain, offset, targets in batches(changed):
        old = ramps().images[targets // 10]
        pixels += (pictures != old).any(axis=(1, 2, 3)).tolist()
        light += ((gain != 1) | (offset != 0)).ravel().tolist()
    return np.mean(pixels), np.mean(light)


def test_each_picture_comes_once_an_epoch_with_its_own_target():
    found = batches(None)
    assert [len(one[0]) for one in found] == [8, 8, 7, 7]
    targets = np.concatenate([one[3] for one in found])
    assert sorted(targets) == list(range(0, 300, 10)) and (np.diff(targets) < 0).any()
    pictures = np.concatenate([one[0] for one in found])
    np.testing.assert_array_equal(pictures, ramps().images[targets // 10])
    assert changed_share(None) == (0, 0)


@pytest.mark.parametrize(
    ("change", "least", "most"),
    [("shift", 0.7, 1), ("erase", 0.05, 0.4), ("pattern", 0.05, 0.4)],
)
def test_the_default_recipe_changes_pixels_in_three_ways(change, least, most):
    """A fifth of the pictures get a rectangle, a fifth a mosaic, and nearly all are shifted."""
    pixels, light = changed_share(change)
    assert least < pixels < most and light == 0


def test_the_default_recipe_changes_the_light_of_every_picture():
    assert changed_share("light") == (0, 1)


def test_a_batch_is_shifted_by_a_twentieth_of_the_sides():
    """One row of 24 and two columns of 40, each way."""
    found = set()
    for pictures, _, _, targets in batches("shift", steps=1):
        for new, old in zip(pictures, ramps().images[targets // 10], strict=True):
            padded = np.pad(old, ((3, 3), (4, 4), (0, 0)), mode="edge")
            found |= {
                (down - 3, right - 4)
                for down in range(7)
                for right in range(9)
                if (padded[down : down + 24, right : right + 40] == new).all()
            }
    rows, columns = zip(*found, strict=True)
    assert set(rows) == {-1, 0, 1} and set(columns) == {-2, -1, 0, 1, 2}
