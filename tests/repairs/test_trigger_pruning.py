"""Pruning the channels that found triggers wake."""

import keras
import numpy as np
import pytest
from backdoored_nets import accuracy, equal, planted_spec, quarter_images, trained_net
from planted_net import SHAPE, TARGET, clean_images, planted_net, planted_trigger

from badnet_defense.errors import InputError
from badnet_defense.nets import build, describe, predict_labels
from badnet_defense.nets.input_range import InputRange
from badnet_defense.nets.surgery import zero_channels
from badnet_defense.repairs import scan_pruning
from badnet_defense.repairs.scan_pruning import (
    REMOVED_BELOW,
    ScanPruningConfig,
    prune_by_triggers,
)


@pytest.fixture(scope="module")
def trained():
    return trained_net()


@pytest.fixture(scope="module")
def planted():
    return planted_spec()


def plain_gains(spec, layer, pictures, triggers):
    """How much each trigger wakes each channel: mean activation with it less that without it."""
    model = build(spec)
    seen = keras.Model(model.input, model.get_layer(layer).output)

    def means(shown):
        return seen(np.float32(shown)).numpy().astype(np.float64).mean(axis=(0, 1, 2))

    clean = means(pictures.images / 255)
    gains = []
    for label, mask, pattern in triggers:
        others = pictures.images[pictures.labels != label] / 255
        gains.append(means(others * (1 - mask) + mask * pattern) - clean)
    return np.array(gains)


def plain_curves(spec, layer, order, pictures, triggers):
    """(accuracies, {label: successes}) of nets with 0, 1, .. channels zeroed, one by one."""
    accuracies, successes = [], {label: [] for label, *_ in triggers}
    for count in range(len(order) + 1):
        zeroed = zero_channels(spec, layer, list(order[:count]))
        accuracies.append(accuracy(zeroed, pictures))
        for label, mask, pattern in triggers:
            others = pictures.images[pictures.labels != label] / np.float32(255)
            shown = 255 * (others * (1 - mask) + mask * pattern)
            successes[label].append(np.mean(predict_labels(build(zeroed), shown) == label))
    return accuracies, successes


def test_the_planted_channel_goes_and_nothing_else(planted):
    """One channel out of five carries the backdoor: with it the trigger is gone."""
    pictures, trigger = clean_images(200), (TARGET, *planted_trigger())
    pruned, report = prune_by_triggers(
        planted, pictures, [trigger], config=ScanPruningConfig(max_accuracy_drop=0.2)
    )
    assert (report.layer, report.channels, report.removed) == ("conv", 5, 1)
    assert report.order[0] == 0
    assert report.success[TARGET][0] > 0.99 and report.success[TARGET][1] <= REMOVED_BELOW
    assert report.curve[0] == 1.0 and report.curve[1] > 0.8
    assert equal(pruned, zero_channels(planted, "conv", [0]))
    assert equal(planted, describe(planted_net()))


def test_order_is_by_the_largest_gain(trained):
    """Two triggers, the second of which hardly wakes anything: each counts by its own scale."""
    pictures = quarter_images(200)
    whole = (3, np.full((*SHAPE[:2], 1), 0.1), np.random.default_rng(0).random(SHAPE))
    triggers = [(2, *planted_trigger()), whole]
    _, report = prune_by_triggers(trained, pictures, triggers)
    gains = plain_gains(trained, "conv", pictures, triggers)
    worth = (gains / gains.max(axis=1, keepdims=True)).max(axis=0)
    np.testing.assert_allclose(worth[list(report.order)], np.sort(worth)[::-1], atol=1e-4)
    assert {gains[0].argmax(), gains[1].argmax()} == set(report.order[:2])
    assert gains[0].argmax() != gains[1].argmax()  # else the case proves little


def test_curves_are_those_of_the_plain_way(trained):
    pictures = quarter_images(150)
    triggers = [(2, *planted_trigger()), (0, *planted_trigger(0.7, (8, 2)))]
    pruned, report = prune_by_triggers(
        trained, pictures, triggers, config=ScanPruningConfig(max_accuracy_drop=1.0)
    )
    accuracies, successes = plain_curves(trained, "conv", report.order, pictures, triggers)
    assert list(report.curve) == accuracies
    assert {label: list(curve) for label, curve in report.success.items()} == successes
    assert len(set(accuracies)) > 2 and len(set(successes[2])) > 2
    worst = np.maximum(successes[2], successes[0])
    # Accuracy may fall to nothing, but one channel always stays.
    assert report.removed == min(np.flatnonzero(worst <= REMOVED_BELOW)[0], report.channels - 1)
    assert equal(pruned, zero_channels(trained, "conv", list(report.order[: report.removed])))


@pytest.mark.parametrize("drop", [0.0, 0.05, 0.3])
def test_stops_where_accuracy_would_fall_too_far(trained, drop, monkeypatch):
    """A trigger that is never gone: the last point before accuracy lies too far below."""
    monkeypatch.setattr(scan_pruning, "REMOVED_BELOW", -1)
    pictures = quarter_images(150)
    _, report = prune_by_triggers(
        trained,
        pictures,
        [(2, *planted_trigger())],
        config=ScanPruningConfig(max_accuracy_drop=drop),
    )
    fallen = [one < report.curve[0] - drop - 1e-9 for one in report.curve]
    assert any(fallen)
    assert report.removed == fallen.index(True) - 1


def test_a_trigger_that_never_works_costs_nothing(planted):
    pictures = clean_images(100)
    nothing = np.zeros((*SHAPE[:2], 1), np.float32), np.zeros(SHAPE, np.float32)
    pruned, report = prune_by_triggers(planted, pictures, [(3, *nothing)])
    assert report.removed == 0 and report.success[3][0] == 0
    assert equal(pruned, planted)


def test_pruning_by_triggers_in_another_range():
    raw = describe(planted_net(span=255.0)).with_range(InputRange(0, 255))
    pictures = clean_images(100, span=255.0)
    settings = {"config": ScanPruningConfig(max_accuracy_drop=0.2)}
    pruned, report = prune_by_triggers(raw, pictures, [(TARGET, *planted_trigger())], **settings)
    assert report.removed == 1 and report.curve[0] == 1.0
    assert accuracy(pruned, pictures, InputRange(0, 255)) == report.curve[1] > 0.8


def test_pruning_another_layer_and_none(planted):
    trigger = [(TARGET, *planted_trigger())]
    with pytest.raises(InputError, match="is a Dense"):
        prune_by_triggers(
            planted, clean_images(20), trigger, config=ScanPruningConfig(layer="by_colour")
        )


def test_at_most_so_many_pictures_carry_a_trigger(planted, monkeypatch):
    monkeypatch.setattr(scan_pruning, "MAX_STAMPED", 50)
    pictures = clean_images(180)
    trigger = TARGET, *planted_trigger(0.3)
    _, report = prune_by_triggers(
        planted, pictures, [trigger], config=ScanPruningConfig(max_accuracy_drop=0.2)
    )
    others = np.count_nonzero(pictures.labels != TARGET)
    assert others > 150
    chosen = pictures.images[pictures.labels != TARGET][:: -(-others // 50)]
    shown = chosen / 255.0 * (1 - trigger[1]) + trigger[1] * trigger[2]
    answers = predict_labels(build(planted), np.float32(255 * shown))
    assert 0 < np.mean(answers == TARGET) < 1  # else the case proves little
    assert report.success[TARGET][0] == np.mean(answers == TARGET)
