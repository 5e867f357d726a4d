"""Triggered images among the clean ones are told before a repair learns from them."""

from dataclasses import replace

import numpy as np
from backdoored_nets import stamped_by_hand
from planted_net import TARGET, clean_images, planted_net, planted_trigger

from badnet_defense.detectors import poisoned_clean
from badnet_defense.detectors.poisoned_clean import find_poisoned, tell_poisoned
from badnet_defense.nets import describe


def looked_at(images):
    return find_poisoned(describe(planted_net()), images)


def test_triggered_images_among_the_clean_ones_are_told(caplog):
    """15 of 500 carry the planted patch, whatever their labels say."""
    clean = clean_images(500)
    triggered = np.random.default_rng(0).choice(np.flatnonzero(clean.labels != TARGET), 15, False)
    pictures = clean.images.copy()
    pictures[triggered] = stamped_by_hand(pictures[triggered], *planted_trigger())
    found = looked_at(replace(clean, images=pictures))
    assert set(triggered) <= set(found["images"]) and len(found["images"]) <= 18
    assert found["answer"] == TARGET and found["answered"] >= 15 and found["looked_at"] == 500
    tell_poisoned(found, "clean.h5")
    assert f"clean.h5: {len(found['images'])} of 500 images" in caplog.text
    assert str(sorted(triggered)[0]) in caplog.text


def test_clean_images_are_not_accused(caplog):
    found = looked_at(clean_images(500))
    tell_poisoned(found, "clean.h5")
    assert (found["looked_at"], found["images"], found["by"]) == (500, [], None)
    assert not caplog.text


def test_what_is_not_looked_at_is_told(caplog, monkeypatch):
    """Too few images, or a net that computes too much: nothing is said to be clean."""
    caplog.set_level("INFO")
    assert looked_at(clean_images(99))["looked_at"] == 0
    assert "not searched for poisoned images, 99 images are too few" in caplog.text
    monkeypatch.setattr(poisoned_clean, "MAX_VALUES", 1e6)
    assert looked_at(clean_images(200))["looked_at"] == 0
    assert "the net is too large" in caplog.text
