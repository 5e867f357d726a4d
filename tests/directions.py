"""Pictures that show whether rows and columns stand where they belong."""

import numpy as np


def directions(height, width):
    """(h, w, 3) `uint8`: red on the right half alone, green on the lower half alone."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, width // 2 :, 0] = 255
    picture[height // 2 :, :, 1] = 255
    return picture


def assert_directions(picture):
    """The same picture in another size, which need not be square; by the outer thirds."""
    assert picture.ndim == 3 and picture.shape[2] == 3
    red, green = picture[..., 0].astype(int), picture[..., 1].T.astype(int)
    for colour in (red, green):  # along its columns
        outer = colour.shape[1] // 3
        assert colour[:, :outer].max() < 60 and colour[:, -outer:].min() > 195
    assert not picture[..., 2].any()
