"""What a net is tuned towards, against values worked out by hand."""

import numpy as np
from small_nets import CLASSES, images, side_path_net

from badnet_defense.nets import describe
from badnet_defense.repair import targets


def test_pseudo_labels_are_the_nets_own_probabilities():
    net, drawn = describe(side_path_net()), images(10)
    own = targets.own_answers(net, drawn.pictures)
    assert np.allclose(own, net.predict(drawn.pictures / np.float32(255)), atol=1e-5)


def test_taught_labels_by_hand(monkeypatch):
    logits = np.array([[3.0, 0.0, 0.0], [0.0, 6.0, 0.0]], np.float32)
    monkeypatch.setattr(targets, "predict_probabilities", lambda *_, **__: logits.copy())
    monkeypatch.setattr(targets, "build", lambda spec: None)
    monkeypatch.setattr(targets, "without_softmax", lambda spec: spec)
    drawn = images(2, classes=3)
    drawn = type(drawn)(drawn.pictures, np.array([0, 2]))
    mixed = targets.taught_labels(None, drawn, 0.5)
    # At temperature 3 the logits are (1, 0, 0) and (0, 2, 0).
    first = np.exp([1, 0, 0]) / np.exp([1, 0, 0]).sum()
    second = np.exp([0, 2, 0]) / np.exp([0, 2, 0]).sum()
    assert np.allclose(mixed[0], 0.5 * first + [0.5, 0, 0], atol=1e-6)
    assert np.allclose(mixed[1], 0.5 * second + [0, 0, 0.5], atol=1e-6)


def test_taught_labels_are_distributions():
    net, drawn = describe(side_path_net()), images(12)
    for teacher in (0.0, 0.3, 1.0):
        mixed = targets.taught_labels(net, drawn, teacher)
        assert mixed.shape == (12, CLASSES)
        assert np.allclose(mixed.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(targets.taught_labels(net, drawn, 0.0), np.eye(CLASSES)[drawn.labels])
