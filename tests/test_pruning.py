"""Ranking and pruning, against the plain way: zero a channel, predict every picture again."""

import keras
import numpy as np
import pytest
from keras import layers
from small_nets import CLASSES, SHAPE, balanced, images, inputs, net, randomised, residual_net, side_path_net

from badnet_defense.data import UNIT, InputRange
from badnet_defense.errors import InputError
from badnet_defense.nets import build, describe
from badnet_defense.nets.graph import layer_to_prune, on_every_path, position_of
from badnet_defense.repair import back_half, forward
from badnet_defense.repair.channels import channel_count, channel_masks, zero_channels
from badnet_defense.repair.pruning import kept_point, prune


def flat_net():
    return net(
        [
            layers.Conv2D(6, 3, activation="relu", name="conv"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(9, activation="relu"),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def normalised_net():
    return net(
        [
            layers.Conv2D(6, 3, use_bias=False, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def depthwise_net():
    return net(
        [
            layers.Conv2D(4, 3, strides=2, activation="relu"),
            layers.DepthwiseConv2D(2, depth_multiplier=2, activation="relu", name="conv"),
            layers.Flatten(),
            layers.Dense(CLASSES),
            layers.Softmax(),
        ]
    )


def separable_net():
    return net(
        [
            layers.SeparableConv2D(6, 3, activation="tanh", name="conv"),
            layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def last_convolution_net():
    """Each class has its channel of the last convolution: no dense layer follows."""
    return net(
        [
            layers.Conv2D(6, 3, activation="relu"),
            layers.Conv2D(CLASSES, 3, name="conv"),
            layers.GlobalAveragePooling2D(),
            layers.Activation("softmax"),
        ]
    )


def grouped_net():
    """The next layer takes the channels in, but not as a plain convolution: no shortcut."""
    return net(
        [
            layers.Conv2D(6, 3, activation="relu", name="conv"),
            layers.Conv2D(6, 2, groups=3, activation="relu"),
            layers.Flatten(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def forked_net():
    """Two convolutions take the layer in, and the pictures also go around it."""
    pictures = keras.Input(SHAPE)
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="conv")(pictures)
    a = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    b = layers.Conv2D(4, 1, activation="sigmoid")(x)
    x = layers.Concatenate()([layers.Multiply()([a, b]), pictures])
    x = layers.Dense(CLASSES, activation="softmax")(layers.Flatten()(x))
    return randomised(keras.Model(pictures, x))


NETS = {
    "side_path": (side_path_net, "conv_3"),
    "side_path_first": (side_path_net, "conv_1"),
    "side_path_only": (side_path_net, "conv_4"),
    "flatten_dense": (flat_net, "conv"),
    "normalised": (normalised_net, "conv"),
    "residual": (residual_net, "inner"),
    "residual_stem": (residual_net, "stem"),
    "depthwise": (depthwise_net, "conv"),
    "separable": (separable_net, "conv"),
    "last_convolution": (last_convolution_net, "conv"),
    "grouped": (grouped_net, "conv"),
    "forked": (forked_net, "conv"),
}


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
        ([0.9, 0.8, 0.79], 0.1, 1),  # exactly the allowed drop is allowed; 0.9 - 0.8 > 0.1 in binary
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


def copies(spec):
    return {name: [w.copy() for w in layer.weights] for name, layer in spec.layers.items()}


@pytest.mark.parametrize("name", NETS)
def test_zeroed_channels_put_out_what_silence_puts_out(name):
    """Only the chosen channels change, they no longer see the picture, and the net stays whole."""
    make, layer = NETS[name]
    spec = describe(make())
    before = copies(spec)
    chosen = [1, 3]
    zeroed = build(zero_channels(spec, layer, chosen))
    outputs = keras.Model(zeroed.inputs, zeroed.get_layer(layer).output)(inputs()).numpy()
    original = build(spec)
    full = keras.Model(original.inputs, original.get_layer(layer).output)(inputs()).numpy()
    rest = [c for c in range(channel_count(spec, layer)) if c not in chosen]
    np.testing.assert_array_equal(outputs[..., chosen], 0)
    np.testing.assert_array_equal(outputs[..., rest], full[..., rest])
    for key, weights in before.items():  # the caller's net is as it was
        for old, new in zip(weights, spec.layers[key].weights, strict=True):
            np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("settings", [{}, {"scale": False}, {"center": False}])
def test_normalisation_behind_a_zeroed_channel_is_silent_too(settings):
    """Its moving mean would otherwise turn the zeros into a constant."""
    model = net(
        [
            layers.Conv2D(4, 3, name="conv"),
            layers.BatchNormalization(name="norm", **settings),
            layers.Flatten(),
            layers.Dense(CLASSES),
        ]
    )
    zeroed = build(zero_channels(describe(model), "conv", [2]))
    results = [
        keras.Model(one.inputs, one.get_layer("norm").output)(inputs()).numpy()
        for one in (zeroed, model)
    ]
    np.testing.assert_allclose(results[0][..., 2], 0, atol=1e-6)
    np.testing.assert_allclose(results[0][..., [0, 1, 3]], results[1][..., [0, 1, 3]], rtol=1e-5)


def test_channels_may_be_a_mask():
    spec = describe(flat_net())
    mask = np.array([0, 1, 0, 1, 0, 0], bool)
    by_mask, by_number = (zero_channels(spec, "conv", one) for one in (mask, [1, 3]))
    for found, wanted in zip(
        by_mask.layers["conv"].weights, by_number.layers["conv"].weights, strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


def test_channel_masks_are_zero_where_zeroing_zeroes():
    masks = channel_masks(describe(normalised_net()), "conv", [1, 4])
    assert set(masks) == {"conv", "norm"}
    kernel = masks["conv"][0]
    assert kernel.shape == (3, 3, 3, 6)
    np.testing.assert_array_equal(kernel[0, 0, 0], [1, 0, 1, 1, 0, 1])
    gamma, beta, mean, variance = masks["norm"]
    for one in (gamma, beta):
        np.testing.assert_array_equal(one, [1, 0, 1, 1, 0, 1])
    assert mean.all() and variance.all()
