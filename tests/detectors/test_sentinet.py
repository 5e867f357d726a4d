"""SentiNet: bands of a picture on other pictures, against one composed picture at a time."""

import keras
import numpy as np
import pytest
from keras import layers
from small_nets import CLASSES, SHAPE, balanced, images, net

from badnet_defense.detectors import overlaid, scores
from badnet_defense.detectors.bands import PLACES, bands
from badnet_defense.detectors.sentinet import SentiNet, SentiNetConfig
from badnet_defense.errors import InputError
from badnet_defense.nets import build, describe
from badnet_defense.nets.input_range import InputRange

CLEAN = images(60, seed=3).images
PICTURES = images(9, seed=4).images


@pytest.fixture(scope="module")
def bad():
    made = net(
        [
            layers.Conv2D(6, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    return describe(balanced(made, CLEAN / np.float32(255)))


def test_bands_cover_the_picture_by_thirds():
    found = bands((9, 6, 3))[..., 0]
    assert found.shape == (2 * PLACES, 9, 6)
    rows = [np.flatnonzero(mask.all(axis=1)).tolist() for mask in found[:PLACES]]
    assert rows == [[0, 1, 2], [2, 3, 4], [3, 4, 5], [4, 5, 6], [6, 7, 8]]
    columns = [np.flatnonzero(mask.all(axis=0)).tolist() for mask in found[PLACES:]]
    assert columns == [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]]
    assert found.sum() == PLACES * (3 * 6 + 9 * 2)


def test_takeover_by_hand():
    """What is left for other classes: 0.1 and 0.5 of the first band's hosts, 0.4 and 0.2 of the
    second's, the better one; none of another class, and nothing is taken over.
    """
    own = np.array([[0.2, 0.8]])
    carried = np.array([[[[0.1, 0.9], [0.0, 1.0], [0.5, 0.5]], [[0.4, 0.6], [1, 0], [0.2, 0.8]]]])
    for xp in (np, keras.ops):
        found = scores.takeover(xp, own, carried, np.array([0, 1, 0]))
        np.testing.assert_allclose(found, [-np.log(0.3)], rtol=1e-6)
        np.testing.assert_allclose(scores.takeover(xp, own, carried, np.array([1, 1, 1])), [0.0])


def test_takeover_tells_apart_what_ends_at_one():
    """Probabilities of 1 - 1e-9 and 1 - 1e-20 are both 1 in `float32`."""
    own, hosts = np.tile(np.float32([0, 1]), (2, 1)), np.array([0])
    carried = np.float32([[[[1e-9, 1]]], [[[1e-20, 1]]]])
    assert np.ptp(carried[..., 1]) == 0
    found = scores.takeover(np, own, carried, hosts)
    np.testing.assert_allclose(found, [9 * np.log(10), 20 * np.log(10)], rtol=1e-5)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_takeover_of_answers_that_are_not_finite(wrong):
    own, hosts = np.tile(np.float32([0, 1]), (3, 1)), np.array([0])
    carried = np.tile(np.float32([0.5, 0.5]), (3, 2, 1, 1))
    carried[1, 0, 0, 0], own[2, 0] = wrong, wrong
    for xp in (np, keras.ops):
        found = np.asarray(scores.takeover(xp, own, carried, hosts))
        assert np.isfinite(found).tolist() == [True, False, False] and found[1:].min() == np.inf


def plain(net, hosts, picture, high=255):
    """The most complete takeover of hosts of other classes, one composed picture at a time."""

    def answers(one):
        return net(one[None].astype(np.float32) / np.float32(high)).numpy()[0].astype(np.float64)

    own = answers(picture).argmax()
    height, width = picture.shape[:2]
    places = [(slice(start, start + height // 3), slice(None)) for start in starts(height)]
    places += [(slice(None), slice(start, start + width // 3)) for start in starts(width)]
    means = []
    for place in places:
        found = []
        for host in hosts:
            if answers(host).argmax() != own:
                composed = host.copy()
                composed[place] = picture[place]
                found.append(np.delete(answers(composed), own).sum())
        means.append(np.mean(found))
    return -np.log(min(means))


def starts(side):
    return np.linspace(0, side - round(side / 3), PLACES).round().astype(int)


@pytest.mark.parametrize("at_once", [1024, 12, 1])
def test_scores_equal_one_composed_picture_at_a_time(at_once, bad, monkeypatch):
    assert SHAPE[0] % 3 == 0 and round(SHAPE[1] / 3) == SHAPE[1] // 3
    monkeypatch.setattr(overlaid, "PAIRS_AT_ONCE", at_once)
    detector = SentiNet(bad, config=SentiNetConfig(0.1, overlays=6)).fit(CLEAN)
    expected = [plain(bad.model, detector.overlays_, one) for one in PICTURES]
    np.testing.assert_allclose(detector.anomaly_score(PICTURES), expected, rtol=1e-4, atol=2e-5)


def test_another_input_range(bad):
    wide = keras.Sequential([keras.Input(SHAPE), layers.Rescaling(1 / 255), build(bad)])
    found = SentiNet(describe(wide).with_range(InputRange(0, 255)), overlays=CLEAN[:6])
    expected = SentiNet(bad, overlays=CLEAN[:6])
    np.testing.assert_allclose(
        found.anomaly_score(PICTURES), expected.anomaly_score(PICTURES), rtol=1e-4, atol=2e-5
    )


def test_pictures_to_paste_on_of_one_class(bad):
    one = np.repeat(CLEAN[:1], 6, axis=0)
    with pytest.raises(InputError, match=r"all 6 clean images .* predicted as class"):
        SentiNet(bad, overlays=one).anomaly_score(PICTURES)
