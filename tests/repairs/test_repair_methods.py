"""The repairs behind one interface: what each does to a net, by hand and against plain code."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from backdoored_nets import weights
from keras import layers
from small_nets import CLASSES, balanced, images, net

from badnet_defense.errors import InputError
from badnet_defense.io.splits import three_parts
from badnet_defense.nets import build, describe
from badnet_defense.nets.graph import without_softmax
from badnet_defense.nets.input_range import InputRange
from badnet_defense.nets.surgery import zero_channels
from badnet_defense.repairs import anp as anp_file
from badnet_defense.repairs.anp import ANPConfig, anp, learn_masks, without_channels
from badnet_defense.repairs.ft_sam import FT_SAM, FTSAMConfig, ft_sam
from badnet_defense.repairs.functional import loss_for
from badnet_defense.repairs.magnitude_pruning import (
    MagnitudePruningConfig,
    PolynomialSparsity,
    prune_magnitudes,
    smallest_zeroed,
)
from badnet_defense.repairs.random_pruning import RandomPruningConfig, prune_randomly
from badnet_defense.repairs.recipes import Recipe
from badnet_defense.repairs.registry import REPAIRS
from badnet_defense.repairs.sharpness import at_sharpest
from badnet_defense.repairs.validated_tuning import HELD_OUT

SHORT = Recipe(learning_rate=0.05, epochs=2, batch_size=16)
QUICK = {"anp": {"steps": 5}, "i-bau": {"tuning": replace(SHORT, learning_rate=1e-3)}}
NAMES = [method.name for method in REPAIRS if not method.facts.get("uses_triggers")]


@pytest.fixture(scope="module")
def spec():
    model = net(
        [
            layers.Conv2D(4, 3, use_bias=False, name="conv_1"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.Conv2D(6, 3, activation="relu", name="conv_3"),
            layers.Flatten(name="rows"),
            layers.Dense(CLASSES, activation="softmax", name="out"),
        ]
    )
    return describe(balanced(model, images(60).images / np.float32(255)))


def quick(name, net, data, **how):
    """A repair with few steps."""
    config = REPAIRS[name].make_config(QUICK.get(name, {"tuning": SHORT}))
    return REPAIRS[name].run(net, data, config=config, seed=3, **how)


@pytest.mark.parametrize("name", NAMES)
def test_a_method_gives_a_new_net_and_repeats_itself(name, spec):
    before = [array.copy() for array in weights(spec)]
    pictures = images(60)
    runs = [quick(name, spec, pictures) for _ in range(2)]
    for one, other, old in zip(weights(runs[0][0]), weights(runs[1][0]), before, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.shape == old.shape
    for array, old in zip(weights(spec), before, strict=True):
        np.testing.assert_array_equal(array, old)
    moved = [(a != b).any() for a, b in zip(weights(runs[0][0]), before, strict=True)]
    assert any(moved) or runs[0][1].get("removed") == 0
    assert isinstance(runs[0][1], dict)


@pytest.mark.parametrize("name", NAMES)
def test_a_method_takes_soft_labels_and_another_range(name, spec):
    """Where the soft labels are the hard ones, nothing changes but the loss's rounding."""
    wide = replace(
        spec,
        layers={
            **spec.layers,
            "conv_1": replace(
                spec.layers["conv_1"], weights=(spec.layers["conv_1"].weights[0] / 255,)
            ),
        },
    )
    pictures = images(60)
    soft = np.eye(CLASSES, dtype=np.float32)[pictures.labels]
    hard, _ = quick(name, spec, pictures)
    given, _ = quick(name, spec, pictures, targets=soft)
    for one, other in zip(weights(hard), weights(given), strict=True):
        np.testing.assert_allclose(one, other, atol=5e-3)
    ranged, _ = quick(name, wide.with_range(InputRange(0, 255)), pictures)
    assert ranged.input_range == InputRange(0, 255)
    for one, other in zip(weights(hard)[1:], weights(ranged)[1:], strict=True):
        assert np.isfinite(other).all() and one.shape == other.shape


def test_settings_of_another_method_are_refused():
    config = REPAIRS["fine-pruning"].make_config({"fraction": 0.5, "tuning": SHORT})
    assert (config.fraction, config.tuning, config.keep_pruned) == (0.5, SHORT, False)
    with pytest.raises(InputError, match=r"ft-sam has no setting 'fraction'; it has tuning"):
        REPAIRS["ft-sam"].make_config({"fraction": 0.5})
    with pytest.raises(InputError, match=r"anp has no setting 'tuning'; it has max_accuracy_drop,"):
        REPAIRS["anp"].make_config({"tuning": SHORT})


# FT-SAM ------------------------------------------------------------------------------------------


def test_sharpest_step_by_hand():
    """W = (3, 0), g = (2, 5): T g = (6, 0), so the step is radius * (|3| * 6, 0) / 6."""

    class Variable:
        def __init__(self, values):
            self.value = tf.Variable(values)

        def assign(self, values):
            self.value.assign(values)

    variable = Variable([3.0, 0.0])
    seen = []

    def gradients_here():
        seen.append(variable.value.numpy().tolist())
        return [tf.constant([7.0, 8.0])]

    found = at_sharpest([variable], [tf.constant([2.0, 5.0])], 0.5, gradients_here)
    np.testing.assert_allclose(seen, [[4.5, 0.0]])
    np.testing.assert_allclose(found[0], [7.0, 8.0])
    np.testing.assert_allclose(variable.value, [3.0, 0.0])


def test_its_step_takes_the_gradient_uphill():
    """One batch, one step, worked out with the method's own radius and that of a plain step."""
    spec = describe(
        net([layers.Flatten(), layers.Dense(CLASSES, activation="softmax", name="out")])
    )
    pictures, radius = images(60), FT_SAM.sharpness
    still = {"shift": 0, "light": 0, "erase": 0, "pattern": 0, "clip": 0, "decays": False}
    recipe = replace(FT_SAM, epochs=1, least_steps=0, batch_size=60, learning_rate=0.1, **still)
    tuned, _ = ft_sam(spec, pictures, config=FTSAMConfig(tuning=recipe))
    parts = three_parts(pictures.labels, HELD_OUT, seed=0)
    seen = pictures.subset(parts.tuning)
    inputs = tf.reshape(seen.images / np.float32(255), (len(seen), -1))
    place = [one.astype(np.float32) for one in spec.layers["out"].weights]

    def slopes(kernel, bias):
        kernel, bias = tf.constant(kernel), tf.constant(bias)
        with tf.GradientTape() as tape:
            tape.watch([kernel, bias])
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(
                    labels=seen.labels, logits=inputs @ kernel + bias
                )
            )
        return [one.numpy() for one in tape.gradient(loss, [kernel, bias])]

    def after(radius):
        g = slopes(*place)
        size = np.sqrt(sum(((np.abs(w) * one) ** 2).sum() for w, one in zip(place, g, strict=True)))
        uphill = [w + radius * w**2 * one / size for w, one in zip(place, g, strict=True)]
        # Nesterov's first step from rest: 1.9 times the rate, momentum 0.9.
        return [w - 0.19 * one for w, one in zip(place, slopes(*uphill), strict=True)]

    assert radius > 0
    for found, wanted, plain in zip(
        tuned.layers["out"].weights, after(radius), after(0), strict=True
    ):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        assert np.abs(wanted - plain).max() > 1e-3


def test_averages_of_batch_normalisation_are_the_net_s_own(spec):
    """The step uphill moves weights only for a gradient: with no learning, nothing changes."""
    still = replace(SHORT, learning_rate=1e-12, decays=False)
    found = [
        ft_sam(spec, images(60), config=FTSAMConfig(tuning=replace(still, sharpness=radius)))[0]
        for radius in (0.0, 2.0)
    ]
    for one, other in zip(*map(weights, found), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


# Magnitude and random pruning --------------------------------------------------------------------


def test_smallest_weights_go():
    found = smallest_zeroed(np.array([[0.1, -2.0], [0.0, 0.5]]), 0.5)
    np.testing.assert_array_equal(found, [[0, 1], [0, 1]])


def test_sparsity_rises_by_a_cubic_polynomial(spec):
    schedule = PolynomialSparsity(spec, 0.5)
    found = [schedule.sparsity(done) for done in (0, 0.25, 0.5, 1)]
    np.testing.assert_allclose(found, [0, 0.5 * (1 - 0.5**3), 0.5, 0.5])


def test_half_of_each_kernel_stays_zero(spec):
    pruned, report = prune_magnitudes(
        spec, images(60), config=MagnitudePruningConfig(tuning=replace(SHORT, epochs=4))
    )
    for name in ("conv_1", "conv_3", "out"):
        kernel = pruned.layers[name].weights[0]
        assert np.mean(kernel == 0) == pytest.approx(0.5, abs=1 / kernel.size)
    assert report["tuning"]["kept_epoch"] >= 2  # the first ends before the schedule does


def test_random_pruning_draws_its_order(spec):
    found = [
        prune_randomly(spec, images(60), config=RandomPruningConfig(tuning=SHORT), seed=seed)[1][
            "pruning"
        ]["order"]
        for seed in (1, 1, 2, 3)
    ]
    assert found[0] == found[1]
    assert len({tuple(order) for order in found}) > 1
    assert all(sorted(order) == list(range(6)) for order in found)


# ANP ---------------------------------------------------------------------------------------------


def test_channels_go_by_their_masks(spec):
    masks = {"conv_1": np.ones(4), "conv_3": np.ones(6)}
    found = without_channels(spec, masks, np.array([1, 4, 9]))
    expected = zero_channels(zero_channels(spec, "conv_1", [1]), "conv_3", [0, 5])
    for one, other in zip(weights(found), weights(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def test_masks_by_plain_gradients(spec):
    """One step against finite differences of the loss of nets with changed weights."""
    pictures, masking = images(24), ANPConfig(steps=1, batch_size=24, shift=0, light=0)
    masks = learn_masks(spec, pictures, pictures.labels, masking, 0)
    loss = loss_for(pictures.labels)

    logits = without_softmax(spec)

    def value(scale, offset):
        norm, conv = logits.layers["norm"], logits.layers["conv_3"]
        gamma, beta, *rest = norm.weights
        kernel, bias = conv.weights
        changed = {
            **logits.layers,
            "norm": replace(norm, weights=(gamma * scale[0], beta * offset[0], *rest)),
            "conv_3": replace(conv, weights=(kernel * scale[1], bias * offset[1])),
        }
        answers = build(replace(logits, layers=changed))(pictures.images / np.float32(255))
        return float(loss(pictures.labels, answers))

    ones = [np.ones(4, np.float32), np.ones(6, np.float32)]

    def slopes(scale, offset, which):
        found = []
        for layer, channels in enumerate((4, 6)):
            for channel in range(channels):
                ends = []
                for change in (1e-2, -1e-2):
                    given = [[array.copy() for array in part] for part in (scale, offset)]
                    given[which][layer][channel] += change
                    ends.append(value(*given))
                found.append((ends[0] - ends[1]) / 2e-2)
        return np.split(np.array(found), [4])

    up = [[0.4 * np.sign(part) for part in slopes(ones, ones, which)] for which in (0, 1)]
    moved = [[1 + shift for shift in part] for part in up]
    worst = slopes(*moved, 0)
    plain = slopes(ones, ones, 0)
    for name, first, second in zip(("conv_1", "conv_3"), plain, worst, strict=True):
        expected = np.clip(1 - 0.02 * (0.5 * first + 0.5 * second), 0, 1)
        np.testing.assert_allclose(masks[name], expected, atol=2e-3)


def test_anp_stops_where_accuracy_falls(spec, monkeypatch):
    order = [np.array([0.1, 0.9, 0.2, 0.9]), np.array([0.3, 0.9, 0.9, 0.9, 0.9, 0.9])]
    monkeypatch.setattr(
        anp_file, "learn_masks", lambda *_: dict(zip(("conv_1", "conv_3"), order, strict=True))
    )
    curve = iter([0.9, 0.9, 0.88, 0.7, 0.9, 0.9])
    monkeypatch.setattr(anp_file, "accuracy", lambda *_: next(curve))
    found, report = anp(spec, images(20))
    assert (report["removed"], report["channels"]) == (2, 10)
    expected = zero_channels(spec, "conv_1", [0, 2])
    np.testing.assert_array_equal(weights(found)[0], weights(expected)[0])


def test_anp_of_a_net_without_any_bias():
    bare = net(
        [
            layers.Conv2D(4, 3, use_bias=False, activation="relu", name="first"),
            layers.Conv2D(4, 3, use_bias=False, name="second"),
            layers.BatchNormalization(center=False),
            layers.Flatten(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    masks = learn_masks(describe(bare), images(24), images(24).labels, ANPConfig(steps=2), 0)
    assert list(masks) == ["first", "second"]
    assert all(((mask > 0) & (mask <= 1)).all() for mask in masks.values())


def test_refusals_of_anp(spec):
    with pytest.raises(InputError, match="max_accuracy_drop -1"):
        ANPConfig(max_accuracy_drop=-1)
    dense = describe(net([layers.Flatten(), layers.Dense(CLASSES, activation="softmax")]))
    with pytest.raises(InputError, match="ANP prunes Conv2D layers"):
        anp(dense, images(20))


def test_anp_leaves_each_layer_a_channel_and_the_classes_alone():
    """The layer with the smallest masks keeps its largest; the last convolution is the classes."""
    model = net(
        [
            layers.Conv2D(3, 3, activation="relu", name="few"),
            layers.Conv2D(8, 3, activation="relu", name="many"),
            layers.Conv2D(CLASSES, 3, name="classes"),
            layers.GlobalAveragePooling2D(),
            layers.Softmax(),
        ]
    )
    masks = learn_masks(describe(model), images(24), images(24).labels, ANPConfig(steps=2), 0)
    assert list(masks) == ["few", "many"]
    fixed = {"few": np.array([0.1, 0.2, 0.15]), "many": np.linspace(0.3, 1, 8)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anp_file, "learn_masks", lambda *_: fixed)
        patch.setattr(anp_file, "kept_point", lambda curve, _: len(curve) - 1)
        found, report = anp(describe(model), images(20))
    assert report["removed"] == 6  # half of 11, rounded; without the rule "few" would lose all
    assert found.layers["few"].weights[0].any(axis=(0, 1, 2)).tolist() == [False, True, False]


def test_anp_learns_nothing_from_the_held_out_pictures(spec, monkeypatch):
    """They set thresholds later: that they are other pictures must not change the net."""
    pictures = images(60)
    parts = three_parts(pictures.labels, HELD_OUT, seed=3)
    held_out = np.concatenate([parts.choosing, parts.untouched])
    others = images(60)
    others.images[held_out] = 255 - others.images[held_out]
    monkeypatch.setattr(anp_file, "kept_point", lambda *_: 1)
    found = [quick("anp", spec, one)[0] for one in (pictures, others)]
    for one, other in zip(*map(weights, found), strict=True):
        np.testing.assert_array_equal(one, other)
