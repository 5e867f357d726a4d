"""Ranking and pruning, against the plain way: zero a channel, predict every picture again."""

import keras
import numpy as np
import pytest
from keras import layers
from pruned_nets import NETS, depthwise_net, flat_net, last_convolution_net, normalised_net
from small_nets import (
    CLASSES,
    SHAPE,
    balanced,
    images,
    net,
    residual_net,
    side_path_net,
)

from badnet_defense.data import UNIT, InputRange
from badnet_defense.errors import InputError
from badnet_defense.nets import build, describe
from badnet_defense.nets.graph import layer_to_prune, on_every_path, position_of
from badnet_defense.repair import back_half, forward
from badnet_defense.repair.channels import zero_channels
from badnet_defense.repair.pruning import kept_point, prune


def case(make, input_range=UNIT, count=60):
    """(spec, pictures): labels are mostly the net's own answers, so that pruning costs accuracy."""
    pictures = images(count)
    scaled = input_range.scale(pictures.pictures)
    model = balanced(make(), scaled)
    own = model(scaled, training=False).numpy().argmax(axis=-1)
    pictures.labels[: 3 * count // 4] = own[: 3 * count // 4]
    return describe(model), pictures


def plain_curve(spec, layer, order, pictures, input_range=UNIT):
    """Accuracy after 0, 1, .. zeroed channels, each by a whole net that predicts everything."""
    scaled, whole = input_range.scale(pictures.pictures), build(spec)
    accuracies = []
    for count in range(len(order) + 1):
        whole.set_weights(build(zero_channels(spec, layer, order[:count])).get_weights())
        answers = whole.predict(scaled, verbose=0)
        accuracies.append(np.mean(answers.argmax(axis=-1) == pictures.labels))
    return accuracies


@pytest.mark.parametrize("name", NETS)
def test_curve_equals_the_plain_way_number_by_number(name):
    make, layer = NETS[name]
    spec, pictures = case(make)
    _, report = prune(spec, pictures, layer=layer)
    expected = plain_curve(spec, layer, list(report.order), pictures)
    assert list(report.curve) == expected
    assert len(set(expected)) > 2  # else the case proves little


def test_curve_in_another_input_range():
    input_range = InputRange(-1, 1)
    spec, pictures = case(flat_net, input_range)
    _, report = prune(spec, pictures, input_range=input_range)
    assert list(report.curve) == plain_curve(
        spec, "conv", list(report.order), pictures, input_range
    )


@pytest.mark.parametrize("name", ["side_path", "residual", "grouped"])
def test_curve_is_the_same_where_memory_does_not_suffice(name, monkeypatch):
    make, layer = NETS[name]
    spec, pictures = case(make)
    _, kept = prune(spec, pictures, layer=layer)
    monkeypatch.setattr(forward, "MOST_KEPT", 0)
    monkeypatch.setattr(forward, "BATCH", 17)
    _, again = prune(spec, pictures, layer=layer)
    assert again.curve == kept.curve and again.order == kept.order


@pytest.mark.parametrize("name", ["side_path", "normalised"])
def test_answers_on_a_knife_s_edge_are_settled_the_plain_way(name, monkeypatch):
    """With every margin called too small, every answer takes the plain way: the same curve."""
    make, layer = NETS[name]
    spec, pictures = case(make)
    _, fast = prune(spec, pictures, layer=layer)
    monkeypatch.setattr(back_half, "NEAR", 1e9)
    _, plain = prune(spec, pictures, layer=layer)
    assert plain.curve == fast.curve


def test_equal_logits_are_answered_with_the_first_class():
    """All channels gone, all logits are zero: argmax says class 0, and so must the curve."""
    model = net(
        [
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(CLASSES, activation="softmax", use_bias=False),
        ]
    )
    pictures = images(30)
    pictures.labels[:] = np.arange(30) % CLASSES
    _, report = prune(describe(model), pictures)
    assert report.curve[-1] == 6 / 30


@pytest.mark.parametrize(
    ("make", "layer", "seen"),
    [
        (flat_net, "conv", "conv"),
        (normalised_net, "conv", None),
        (side_path_net, "conv_3", "conv_3"),
        (depthwise_net, "conv", "conv"),
        (last_convolution_net, "conv", "conv"),
    ],
)
def test_mean_activation_and_order(make, layer, seen):
    model = make()
    place = next(one for one in model.layers if one.name == seen or isinstance(one, layers.ReLU))
    pictures = images()
    results = keras.Model(model.inputs, place.output).predict(pictures.pictures / 255.0, verbose=0)
    expected = results.astype(np.float64).mean(axis=(0, 1, 2))
    _, report = prune(describe(model), pictures, layer=layer)
    assert list(report.order) == np.argsort(expected).tolist()
    np.testing.assert_allclose(report.mean_activation, np.sort(expected), rtol=1e-4, atol=1e-6)


def test_default_layer():
    assert layer_to_prune(describe(side_path_net())) == "conv_3"
    names = ("a", "b", "c", "d")  # without the challenge's names the topology decides
    spec = describe(side_path_net(names=names))
    assert layer_to_prune(spec) == "c"
    assert [on_every_path(spec, position_of(spec, name)) for name in names] == [
        *(True, True, True, False)
    ]
    assert layer_to_prune(describe(residual_net())) == "stem"
    assert layer_to_prune(describe(side_path_net()), "conv_4") == "conv_4"


def test_layers_that_cannot_be_pruned():
    pictures = keras.Input(SHAPE)
    shared = layers.Conv2D(3, 3, padding="same", name="shared")
    rows = layers.Flatten()(shared(shared(pictures)))
    spec = describe(keras.Model(pictures, layers.Dense(CLASSES, name="out")(rows)))
    for layer, words in (
        ("nothing", "no layer 'nothing'"),
        ("shared", "used 2 times"),
        ("out", "is a Dense"),
        (None, "no convolution lies on every path"),
    ):
        with pytest.raises(InputError, match=words):
            prune(spec, images(8), layer=layer)


def test_unlabelled_pictures_and_shares_outside_0_to_1():
    spec = describe(flat_net())
    with pytest.raises(InputError, match="--pseudo-labels"):
        prune(spec, images(8).without_labels())
    for settings in ({"max_accuracy_drop": 10}, {"fraction": -0.1}):
        with pytest.raises(InputError, match="between 0 and 1"):
            prune(spec, images(8), **settings)


@pytest.mark.parametrize(
    ("curve", "drop", "kept"),
    [
        ([0.9, 0.9, 0.88, 0.7, 0.1], 0.1, 2),
        ([0.9, 0.9, 0.88, 0.7, 0.1], 0.0, 1),
        ([0.9, 0.8, 0.85, 0.9, 0.9], 0.05, 0),  # stops at the first fall, though it recovers
        ([0.9, 0.91, 0.95, 0.9], 0.0, 3),
        ([0.9, 0.5, 0.4, 0.1], 1.0, 3),
        (
            [0.9, 0.8, 0.79],
            0.1,
            1,
        ),  # exactly the allowed drop is allowed; 0.9 - 0.8 > 0.1 in binary
        ([0.7, 0.6, 0.5, 0.4], 0.2, 2),
        ([1.0], 0.1, 0),
    ],
)
def test_kept_point(curve, drop, kept):
    assert kept_point(np.array(curve), drop) == kept


def test_allowed_drop_decides_how_much_is_removed():
    spec, pictures = case(flat_net)
    pruned, report = prune(spec, pictures, max_accuracy_drop=0.2)
    curve = np.array(report.curve)
    assert curve[report.removed] >= curve[0] - 0.2 - 1e-9
    assert report.removed == len(curve) - 1 or curve[report.removed + 1] < curve[0] - 0.2
    assert (report.channels, report.layer, report.fraction) == (6, "conv", None)
    expected = zero_channels(spec, "conv", list(report.order[: report.removed]))
    for name, layer in pruned.layers.items():
        for found, wanted in zip(layer.weights, expected.layers[name].weights, strict=True):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(("fraction", "removed"), [(0, 0), (0.5, 3), (0.77, 5), (1, 6)])
def test_fraction_removes_a_fixed_share(fraction, removed):
    spec, pictures = case(flat_net)
    pruned, report = prune(spec, pictures, fraction=fraction)
    assert report.removed == removed
    assert report.max_accuracy_drop is None and report.fraction == fraction
    kernel, bias = pruned.layers["conv"].weights
    silent = ~kernel.any(axis=(0, 1, 2)) & (bias == 0)
    assert sorted(np.flatnonzero(silent)) == sorted(report.order[:removed])
