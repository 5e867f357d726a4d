"""STRIP: its scores against one overlay at a time, its overlays."""

import numpy as np
import pytest
from guard_pairs import NETS, PICTURES, two_nets
from small_detectors import CLEAN, RATE, made

from badnet_defense.detectors import overlaid
from badnet_defense.detectors.strip import OverlayConfig, Strip
from badnet_defense.errors import InputError
from badnet_defense.nets import describe


def plain_strip(net, overlays, picture):
    """Minus the mean over overlays of -sum p log2 p, one overlay at a time."""
    entropies = []
    for overlay in overlays:
        mixed = (picture.astype(np.float64) + overlay) / 2 / 255
        answers = net(mixed[None].astype(np.float32)).numpy()[0].astype(np.float64)
        entropies.append(-sum(p * np.log2(p) for p in answers if p > 0))
    return -np.mean(entropies)


@pytest.mark.parametrize("at_once", [512, 3])
@pytest.mark.parametrize("name", NETS)
def test_strip_equals_one_overlay_at_a_time(name, at_once, monkeypatch):
    monkeypatch.setattr(overlaid, "PAIRS_AT_ONCE", at_once)
    bad, _ = two_nets(NETS[name])
    detector = Strip(describe(bad), config=OverlayConfig(RATE, overlays=7)).fit(CLEAN)
    assert detector.overlays_.shape == (7, *CLEAN.shape[1:])
    expected = [plain_strip(bad, detector.overlays_, one) for one in PICTURES[:9]]
    np.testing.assert_allclose(detector.anomaly_score(PICTURES[:9]), expected, atol=2e-5)


def test_strip_sets_its_threshold_by_other_pictures_than_its_overlays(trio):
    detector = made("strip", trio)
    left = detector.prepare(CLEAN)
    assert len(left) == len(CLEAN) - 12
    both = np.concatenate([left, detector.overlays_])
    assert len(np.unique(both.reshape(len(both), -1), axis=0)) == len(CLEAN)
    again = made("strip", trio)
    again.prepare(CLEAN)
    np.testing.assert_array_equal(again.overlays_, detector.overlays_)


def test_strip_with_too_few_pictures(trio):
    with pytest.raises(InputError, match="at least 24 clean images, got 20: it composes 12"):
        made("strip", trio).fit(CLEAN[:20])


def test_strip_with_overlays_of_one_s_own(trio):
    own = Strip(trio[0], overlays=CLEAN[:5], config=OverlayConfig(RATE)).fit(CLEAN[5:])
    np.testing.assert_array_equal(own.overlays_, CLEAN[:5])
    assert own.expected_.pictures == len(CLEAN) - 5
