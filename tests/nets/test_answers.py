"""Answers that are not finite, ties, and answers that hang on rounding, by every way they come."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from odd_nets import gated_net, overflowing_net
from small_nets import CLASSES, SHAPE

from badnet_defense.detectors import scores
from badnet_defense.detectors.soft_disagreement import SoftDisagreement
from badnet_defense.errors import WeightError
from badnet_defense.evaluation.evaluate import evaluate_defense
from badnet_defense.evaluation.guard_answers import guard_answers
from badnet_defense.guards.calibrated import build_calibrated_guard
from badnet_defense.guards.disagreement import build_guard, build_portable_guard
from badnet_defense.guards.reading import read_guard
from badnet_defense.guards.saved import SavedGuard
from badnet_defense.nets import describe, predict_labels
from badnet_defense.nets.answers import NO_ANSWER, classes_of
from badnet_defense.nets.forward import stable_proba
from badnet_defense.nets.weights import with_weights
from badnet_defense.report.tables import defense_table

NAN, INF = float("nan"), float("inf")
ROWS = np.float32(
    [
        [0.2, 0.8, 0.0],
        [NAN, NAN, NAN],
        [0.1, NAN, 0.9],
        [0.0, INF, 0.0],
        [-0.0, 0.0, 0.0],
        [0.0, -0.0, 1e-40],
        [0.5 - 1e-7, 0.0, 0.5],
        [0.4999, 0.0, 0.5001],
        [-3.0, -1.0, -2.0],
    ]
)
NAMED = [1, NO_ANSWER, NO_ANSWER, NO_ANSWER, 0, 0, 0, 2, 1]


def pictures(*values):
    """(n, h, w, c) `uint8`, one plain image for each grey value."""
    return np.stack([np.full(SHAPE, value, np.uint8) for value in values])


DARK_BRIGHT = pictures(0, 255, 200)


def test_classes_are_the_same_in_numpy_and_in_a_graph():
    assert classes_of(np, ROWS).tolist() == NAMED
    in_graph = tf.function(lambda rows: classes_of(keras.ops, rows))
    # Denormals are zero in TensorFlow; the row with one has equal numbers either way.
    assert in_graph(tf.constant(ROWS)).numpy().tolist() == NAMED


def test_a_net_without_an_answer_names_no_class():
    labels = predict_labels(overflowing_net(), DARK_BRIGHT)
    assert labels[0] in range(CLASSES) and labels[1:].tolist() == [NO_ANSWER] * 2


def test_guard_answers_poisoned_where_both_nets_have_no_answer():
    own = guard_answers(np.array([NO_ANSWER, 2, NO_ANSWER]), np.array([NO_ANSWER, 2, 1]), CLASSES)
    assert own.tolist() == [CLASSES, 2, CLASSES]


@pytest.fixture
def nets():
    repaired = overflowing_net()
    repaired.set_weights([weights * np.float32(1.001) for weights in repaired.get_weights()])
    return describe(overflowing_net()), describe(repaired)


def in_numpy(guard):
    """A `SavedGuard`'s answers without a look at whether they are steady."""
    inputs = DARK_BRIGHT / np.float32(255)
    return guard.answers(inputs, lambda name, some: guard.nets[name].numpy_proba(some)).tolist()


def test_hard_guards_answer_poisoned_where_nets_overflow(nets, tmp_path):
    for number, make in enumerate((build_guard, build_portable_guard)):
        guard = make(*nets)
        given = guard(DARK_BRIGHT / np.float32(255), training=False).numpy()
        assert given[0] < CLASSES and given[1:].tolist() == [CLASSES] * 2
        guard.save(tmp_path / f"{number}.keras")
        saved = read_guard(tmp_path / f"{number}.keras")
        assert in_numpy(saved) == given.tolist()
        assert saved.answers(DARK_BRIGHT / np.float32(255))[1:].tolist() == [CLASSES] * 2


def test_portable_guard_answers_poisoned_in_onnx(nets, tmp_path):
    pytest.importorskip("tf2onnx")
    runtime = pytest.importorskip("onnxruntime")
    from badnet_defense.guards.portable import export_portable

    export_portable(*nets, tmp_path / "guard.onnx")
    session = runtime.InferenceSession(tmp_path / "guard.onnx")
    (given,) = session.run(None, {"pictures": DARK_BRIGHT / np.float32(255)})
    assert given[0] < CLASSES and given[1:].tolist() == [CLASSES] * 2


def test_detector_and_its_file_answer_poisoned_where_nets_overflow(nets, tmp_path):
    detector = SoftDisagreement(*nets).fit_scores(np.linspace(0, 1, 200))
    own = detector.predict(DARK_BRIGHT)
    assert own[0] < CLASSES and own[1:].tolist() == [CLASSES] * 2
    assert np.isinf(detector.anomaly_score(DARK_BRIGHT)[1:]).all()
    guard = build_calibrated_guard(detector)
    inputs = DARK_BRIGHT / np.float32(255)
    assert guard(inputs, training=False).numpy().tolist() == own.tolist()
    guard.save(tmp_path / "soft.keras")
    assert in_numpy(read_guard(tmp_path / "soft.keras")) == own.tolist()


def test_a_net_alone_says_n_where_it_overflows():
    guard = SavedGuard({"suspect": describe(overflowing_net())})
    assert guard.answers(DARK_BRIGHT / np.float32(255))[1:].tolist() == [CLASSES] * 2


@pytest.mark.parametrize("measure", ["nll", "divergence", "hard", "expert_log_ratio"])
@pytest.mark.parametrize("xp", [np, keras.ops])
def test_a_score_of_no_answer_is_infinite(measure, xp):
    good, broken = np.float32([[0.7, 0.3]]), np.float32([[INF, 0.3]])
    count = 3 if measure == "expert_log_ratio" else 2
    for place in range(count):
        answers = [broken if one == place else good for one in range(count)]
        found = float(getattr(scores, measure)(xp, *answers)[0])
        assert found == (1.0 if measure == "hard" else INF)


def test_evaluation_counts_and_tells_answers_that_are_not_finite(nets):
    from badnet_defense.io import Dataset

    images = Dataset(DARK_BRIGHT, np.array([0, 0, 0]))
    named = {"bad": nets[0], "repaired": nets[1]}
    result = evaluate_defense(named, {"poisoned": images})
    assert result["bad"]["poisoned"]["not_finite"] == 2
    assert result["bad"]["poisoned"]["attack_success"] <= 1 / 3
    assert result["guard"]["poisoned"]["flagged"] == pytest.approx(2 / 3)
    told = "2 predictions of the suspect model on poisoned images were not finite"
    assert told in defense_table(result)


def test_denormal_weights_are_zero_in_numpy_as_in_tensorflow():
    net = gated_net(1e-40, 1e38)
    inputs = DARK_BRIGHT / np.float32(255)
    expected = net(inputs, training=False).numpy()
    assert expected.argmax(axis=1).tolist() == [0, 0, 0]
    np.testing.assert_allclose(describe(net).numpy_proba(inputs), expected, rtol=1e-5)


def test_products_that_are_denormal_add_up_to_nothing():
    # Each product is below the smallest normal number, their exact sum is far above it.
    net = gated_net(5e-39, 1e36)
    dim = np.full((2, *SHAPE), 0.5, np.float32)
    expected = net(dim, training=False).numpy()
    np.testing.assert_allclose(describe(net).numpy_proba(dim), expected, rtol=1e-5)


@pytest.mark.parametrize("large", [1e36, -1e36])
def test_an_answer_that_hangs_on_the_smallest_numbers_is_none(large):
    # TensorFlow keeps 1e-36; another program may take it for zero: nobody should rely on it.
    spec = describe(gated_net(1e-37, large))
    inputs = DARK_BRIGHT / np.float32(255)
    assert np.isfinite(spec.numpy_proba(inputs)).all()
    assert np.isnan(stable_proba(spec, inputs))[1:].all() == (large > 0)


def test_an_answer_that_hangs_on_the_order_of_a_sum_is_none():
    # 2^24 + 1 - 2^24 is 0 or 1 in float32, as the sum is taken.
    spec = describe(gated_net(1.0, 1.0))
    kernel = np.zeros((np.prod(SHAPE), 1), np.float32)
    kernel[:3, 0] = 2.0**24, 1.0, -(2.0**24)
    spec.layers["tiny"].weights[0][...] = kernel
    assert np.isnan(stable_proba(spec, DARK_BRIGHT / np.float32(255))[1]).all()


def test_answers_of_an_ordinary_net_are_steady():
    from small_nets import inputs, side_path_net

    spec = describe(side_path_net())
    np.testing.assert_array_equal(stable_proba(spec, inputs(64)), spec.numpy_proba(inputs(64)))


@pytest.mark.parametrize("variance, epsilon", [(0.0, 0.0), (-1.0, 1e-3), (0.0, 1e-40)])
def test_a_variance_that_has_no_root_is_refused(variance, epsilon):
    net = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.BatchNormalization(epsilon=epsilon),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    spec = describe(net)
    arrays = {name: list(layer.weights) for name, layer in spec.layers.items()}
    name = next(name for name, layer in spec.layers.items() if layer.kind == "BatchNormalization")
    arrays[name][-1] = np.full(3, variance, np.float32)
    with pytest.raises(WeightError, match="smallest variance and epsilon make"):
        with_weights(spec, arrays)
