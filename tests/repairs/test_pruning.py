"""Ranking and pruning, against the plain way: zero a channel, predict every picture again."""

from dataclasses import replace

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
    randomised,
    residual_net,
    side_path_net,
)

from badnet_defense.errors import InputError
from badnet_defense.guards.pairing import read_pair
from badnet_defense.io import write_challenge_h5
from badnet_defense.nets import build, describe, save_net
from badnet_defense.nets.graph import layer_to_prune, on_every_path, position_of
from badnet_defense.nets.input_range import UNIT, InputRange
from badnet_defense.nets.surgery import zero_channels
from badnet_defense.repairs import front_half as forward
from badnet_defense.repairs import pruning
from badnet_defense.repairs.fine_pruning import FinePruningConfig
from badnet_defense.repairs.front_half import FrontHalf
from badnet_defense.repairs.pruning import PruningConfig, kept_point
from badnet_defense.repairs.pruning import prune as prune_by
from badnet_defense.repairs.pruning_curve import pruning_curve
from badnet_defense.repairs.recipes import RECIPES
from badnet_defense.workflows.repair import repair_file


def prune(net, data, **settings):
    """`prune` with these settings."""
    return prune_by(net, data, config=PruningConfig(**settings))


def case(make, input_range=UNIT, count=60):
    """(spec, pictures): labels are mostly the net's own answers, so that pruning costs accuracy."""
    pictures = images(count)
    scaled = input_range.scale(pictures.images)
    model = balanced(make(), scaled)
    own = model(scaled, training=False).numpy().argmax(axis=-1)
    pictures.labels[: 3 * count // 4] = own[: 3 * count // 4]
    return describe(model).with_range(input_range), pictures


def plain_curve(spec, layer, order, pictures, input_range=UNIT):
    """Accuracy after 0, 1, .. zeroed channels, each by a whole net that predicts everything."""
    scaled, whole = input_range.scale(pictures.images), build(spec)
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
    _, report = prune(spec, pictures)
    assert list(report.curve) == plain_curve(
        spec, "conv", list(report.order), pictures, input_range
    )


@pytest.mark.parametrize("name", ["side_path", "residual", "grouped"])
def test_curve_is_the_same_where_memory_does_not_suffice(name, monkeypatch):
    make, layer = NETS[name]
    spec, pictures = case(make)
    _, kept = prune(spec, pictures, layer=layer)
    monkeypatch.setattr(forward, "MAX_CACHE", 0)
    monkeypatch.setattr(forward, "BATCH", 17)
    _, again = prune(spec, pictures, layer=layer)
    assert again.curve == kept.curve and again.order == kept.order


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
    spec = describe(model)
    curve = pruning_curve(
        spec, "conv", range(4), FrontHalf(spec, "conv", pictures.images), pictures.labels
    )
    assert curve[-1] == 6 / 30


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
    spec, pictures = case(make)
    model = build(spec)
    place = next(one for one in model.layers if one.name == seen or isinstance(one, layers.ReLU))
    results = keras.Model(model.inputs, place.output).predict(pictures.images / 255.0, verbose=0)
    expected = results.astype(np.float64).mean(axis=(0, 1, 2))
    _, report = prune(spec, pictures, layer=layer)
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
    decoyed = describe(side_path_net(names=("a", "b", "c", "conv_3")))
    assert layer_to_prune(decoyed) == "c"  # a name says nothing: this conv_3 is a side path
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
        (None, "no convolution that is used once"),
    ):
        with pytest.raises(InputError, match=words):
            prune(spec, images(8), layer=layer)


def test_unlabelled_pictures_and_shares_outside_0_to_1():
    spec = describe(flat_net())
    with pytest.raises(InputError, match="pseudo-labels"):
        prune(spec, images(8).without_labels())
    for settings in ({"max_accuracy_drop": 1.01}, {"fraction": -0.01}, {"fraction": 1.01}):
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


@pytest.mark.parametrize(("fraction", "removed"), [(0, 0), (0.5, 3), (0.77, 5), (1, 5)])
def test_fraction_removes_a_fixed_share(fraction, removed):
    spec, pictures = case(flat_net)
    pruned, report = prune(spec, pictures, fraction=fraction)
    assert report.removed == removed
    assert [("one of the 6 channels" in one) for one in report.remarks] == [True] * (fraction == 1)
    assert report.max_accuracy_drop is None and report.fraction == fraction
    kernel, bias = pruned.layers["conv"].weights
    silent = ~kernel.any(axis=(0, 1, 2)) & (bias == 0)
    assert sorted(np.flatnonzero(silent)) == sorted(report.order[:removed])


def classes_net(end):
    """A net whose last convolution puts out the classes."""
    return describe(
        net(
            [
                layers.Conv2D(6, 3, activation="relu", name="features"),
                layers.Conv2D(CLASSES, 3, name="classes"),
                *end,
                layers.Activation("softmax"),
            ]
        )
    )


ENDS = {
    "pooling": [layers.BatchNormalization(), layers.ReLU(), layers.GlobalAveragePooling2D()],
    "flatten": [layers.MaxPooling2D((8, 6)), layers.Flatten()],
    "reshape": [
        layers.GlobalMaxPooling2D(keepdims=True),
        layers.Dropout(0.1),
        layers.Reshape((CLASSES,)),
    ],
    "depthwise": [layers.DepthwiseConv2D(3), layers.GlobalAveragePooling2D()],
}


@pytest.mark.parametrize("end", ENDS)
def test_the_layer_whose_channels_are_the_classes_is_never_pruned(end):
    spec = classes_net(ENDS[end])
    assert layer_to_prune(spec) == "features"
    with pytest.raises(InputError, match=r"'classes' are the classes.*\(features\)"):
        layer_to_prune(spec, "classes")


def test_a_convolution_with_as_many_channels_as_classes_may_be_a_feature():
    spec = describe(
        net(
            [
                layers.Conv2D(CLASSES, 3, name="conv"),
                layers.GlobalAveragePooling2D(),
                layers.Dense(CLASSES, activation="softmax"),
            ]
        )
    )
    assert layer_to_prune(spec) == "conv"


def test_nets_without_a_convolution_to_prune():
    dense = describe(net([layers.Flatten(), layers.Dense(CLASSES, activation="softmax")]))
    only = describe(
        net([layers.Conv2D(CLASSES, 3), layers.GlobalAveragePooling2D(), layers.Softmax()])
    )
    for spec, words in ((dense, "no convolution to prune"), (only, "channels are not the classes")):
        with pytest.raises(InputError, match=rf"{words}; methods that need none are fine-tuning"):
            prune(spec, images(8))


def test_an_early_layer_is_told_with_late_ones_to_name(caplog):
    """In a residual net only the stem lies on every path; in DeepID's kind conv_3 of 4 is late."""
    spec, pictures = case(residual_net)
    _, report = prune(spec, pictures)
    (told,) = report.remarks
    assert (
        "stem, is convolution 1 of 2" in told
        and "choose a late layer (the last are stem, inner)" in told
    )
    assert told in caplog.text
    assert prune(spec, pictures, layer="stem")[1].remarks == ()  # asked for by name
    spec, pictures = case(side_path_net)
    assert prune(spec, pictures)[1].remarks == ()


def test_what_is_told_of_a_layer_stands_in_the_result_not_in_the_net(tmp_path):
    """The repaired net's notes are short facts, so that it can be read again."""
    spec, pictures = case(residual_net)
    save_net(build(spec), tmp_path / "net.h5")
    write_challenge_h5(tmp_path / "clean.h5", pictures)
    config = FinePruningConfig(tuning=replace(RECIPES["default"], epochs=0))
    result = repair_file(
        tmp_path / "net.h5", tmp_path / "clean.h5", out=tmp_path / "out", config=config
    )
    assert "convolution 1 of 2" in result["pruning"]["remarks"][0]
    pair = read_pair(tmp_path / "net.h5", folder=tmp_path / "out")
    assert pair.pruning["layer"] == "stem" and "remarks" not in pair.pruning


def decoy_net():
    """A convolution beside the net, whose channels hardly count."""
    pictures = keras.Input(SHAPE)
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="real")(pictures)
    y = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv_3")(pictures)
    y = layers.Conv2D(6, 1, name="tiny")(y)
    x = layers.Conv2D(6, 3, activation="relu", name="late")(layers.Add()([x, y]))
    x = layers.Dense(CLASSES, activation="softmax", name="out")(layers.Flatten()(x))
    model = randomised(keras.Model(pictures, x))
    tiny = model.get_layer("tiny")
    tiny.set_weights([array * 1e-6 for array in tiny.get_weights()])
    return model


def test_a_layer_that_decides_no_answers_is_refused():
    spec, pictures = case(decoy_net)
    assert prune(spec, pictures)[1].layer == "late"
    words = r"all 4 channels of conv_3 costs 0.0 points.*name another convolution as the layer"
    with pytest.raises(InputError, match=words):
        prune(spec, pictures, layer="conv_3")


def scripted(monkeypatch, *curve):
    """The result of pruning six channels along a given curve, with the usual settings."""
    monkeypatch.setattr(pruning, "pruning_curve", lambda *_: np.array(curve))
    return prune(*case(flat_net, count=8))[1]


def test_four_points_of_accuracy_may_be_lost(monkeypatch):
    report = scripted(monkeypatch, 0.9, 0.89, 0.87, 0.86, 0.855, 0.9, 0.1)
    assert report.removed == 3  # 0.86 is four points below 0.9, 0.855 more
    assert report.max_accuracy_drop == 0.04 and report.fraction is None


def test_a_layer_must_cost_two_points(monkeypatch):
    assert scripted(monkeypatch, *[0.9] * 6, 0.88).removed == 5
    for last, cost in ((0.881, "1.9"), (0.9, "0.0"), (0.95, "0.0")):
        with pytest.raises(InputError, match=f"zeroing all 6 channels of conv costs {cost} points"):
            scripted(monkeypatch, *[0.9] * 6, last)


def test_all_channels_never_go():
    """An allowed drop of everything leaves one channel, and says so."""
    spec, pictures = case(flat_net)
    pruned, report = prune(spec, pictures, max_accuracy_drop=1.0)
    assert (report.removed, report.channels) == (5, 6)
    assert "one of the 6 channels of conv was kept" in report.remarks[0]
    assert pruned.layers["conv"].weights[0].any()


def test_side_paths_alone_ask_for_a_name():
    pictures = keras.Input(SHAPE)
    left, right = (
        layers.Flatten()(layers.Conv2D(3, 3, name=name)(pictures)) for name in ("left", "right")
    )
    x = layers.Dense(CLASSES, activation="softmax")(layers.Concatenate()([left, right]))
    spec = describe(randomised(keras.Model(pictures, x)))
    with pytest.raises(InputError, match=r"no convolution lies on every path.*\(left, right\)"):
        prune(spec, images(8))
