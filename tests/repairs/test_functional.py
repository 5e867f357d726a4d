"""What is computed of images and answers inside a compiled tuning step, by hand."""

import numpy as np
import pytest

from badnet_defense.nets.input_range import InputRange
from badnet_defense.repairs.functional import random_brightness_contrast


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (0, 255)])
def test_light_ends_at_black_and_white_in_the_net_s_range(low, high):
    """10, 100 and 250 times 1.5 minus 30: -15, 120 and 345, of which the outer two are clipped."""
    pictures = np.uint8([10, 100, 250]).reshape(1, 1, 3, 1)
    gain, offset = np.float32([1.5, -30]).reshape(2, 1, 1, 1, 1)
    found = random_brightness_contrast(pictures, gain, offset, InputRange(low, high))
    expected = low + np.array([0, 120 / 255, 1]) * (high - low)
    np.testing.assert_allclose(np.ravel(found), expected, rtol=1e-6, atol=1e-6)
