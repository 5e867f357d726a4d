"""Nets that end in logits or sigmoids: read as probabilities, written back as they came."""

import keras
import numpy as np
import pytest
from keras import layers
from small_nets import CLASSES, SHAPE, inputs, net

from badnet_defense.detectors.soft_disagreement import SoftDisagreement
from badnet_defense.detectors.strip import Strip
from badnet_defense.errors import InputError, UnsafeNetError
from badnet_defense.nets import as_given, as_probabilities, build, describe, read_classifier
from badnet_defense.nets.graph import without_softmax
from badnet_defense.nets.outputs import FORM, LOGITS, SIGMOID, SIGMOIDS


def body():
    return [layers.Conv2D(4, 3, activation="relu"), layers.GlobalAveragePooling2D()]


ENDS = {
    "logits": (lambda: [layers.Dense(CLASSES)], LOGITS),
    "relu": (lambda: [layers.Dense(CLASSES, activation="relu")], LOGITS),
    "logits and dropout": (lambda: [layers.Dense(CLASSES), layers.Dropout(0.5)], LOGITS),
    "sigmoids": (lambda: [layers.Dense(CLASSES, activation="sigmoid")], SIGMOIDS),
    "sigmoid layer": (lambda: [layers.Dense(CLASSES), layers.Activation("sigmoid")], SIGMOIDS),
    "one sigmoid": (lambda: [layers.Dense(1, activation="sigmoid")], SIGMOID),
    "one sigmoid layer": (lambda: [layers.Dense(1), layers.Activation("sigmoid")], SIGMOID),
    "no bias": (lambda: [layers.Dense(1, use_bias=False, activation="sigmoid")], SIGMOID),
}


@pytest.mark.parametrize("end", ENDS)
def test_other_ends_become_probabilities_and_go_back(end):
    make, form = ENDS[end]
    spec = describe(net([*body(), *make()]))
    given, found = spec.numpy_proba(inputs(20)), as_probabilities(spec)
    assert found.attributes[FORM] == form and as_probabilities(found) is found
    answers = found.numpy_proba(inputs(20))
    np.testing.assert_allclose(answers.sum(axis=1), 1, rtol=1e-5)
    if form == SIGMOID:
        np.testing.assert_allclose(answers[:, 1:], given, rtol=1e-5)
        assert without_softmax(found).numpy_proba(inputs(3))[:, 0].tolist() == [0, 0, 0]
    elif form == SIGMOIDS:
        odds = np.log(given / (1 - given))
        expected = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(answers, expected, rtol=1e-4)
    else:
        expected = np.exp(given) / np.exp(given).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(answers, expected, rtol=1e-4)
    # Through a built net, as repairs have it.
    again = as_given(describe(build(found)), form)
    np.testing.assert_allclose(again.numpy_proba(inputs(20)), given, rtol=1e-4, atol=1e-6)
    assert again.classes == spec.classes and set(again.layers) == set(spec.layers)


@pytest.mark.parametrize(
    "end",
    [
        lambda: [layers.Dense(CLASSES, activation="softmax")],
        lambda: [layers.Dense(CLASSES), layers.Softmax(), layers.Dropout(0.1)],
        lambda: [layers.Reshape((1, 4)), layers.Softmax(), layers.Flatten()],
    ],
)
def test_probabilities_stay_as_they_are(end):
    spec = describe(net([*body(), *end()]))
    assert as_probabilities(spec) is spec and as_given(spec, None) is spec


def test_a_tuned_sigmoid_goes_back_as_the_difference_of_both_logits():
    spec = as_probabilities(describe(net([*body(), layers.Dense(1, activation="sigmoid")])))
    model = build(spec)
    rng = np.random.default_rng(0)
    model.layers[-1].set_weights([rng.normal(size=(4, 2)), rng.normal(size=2)])
    tuned = describe(model)
    single = as_given(tuned, SIGMOID).numpy_proba(inputs(9))
    np.testing.assert_allclose(single[:, 0], tuned.numpy_proba(inputs(9))[:, 1], rtol=1e-5)


@pytest.mark.parametrize(
    "end",
    [
        lambda: [layers.Dense(1)],
        lambda: [layers.Dense(1, activation="softmax")],
        lambda: [layers.Dense(1, activation="tanh"), layers.Activation("sigmoid")],
    ],
)
def test_one_number_that_is_no_sigmoid_is_refused(end, tmp_path):
    model = net([*body(), *end()])
    model.save(tmp_path / "net.keras")
    with pytest.raises(InputError, match=r"net\.keras: its output is one number"):
        read_classifier(tmp_path / "net.keras")


def test_detectors_refuse_outputs_that_are_no_probabilities():
    pictures = np.random.default_rng(0).integers(0, 256, (30, *SHAPE)).astype(np.uint8)
    logits = describe(net([*body(), layers.Dense(CLASSES)]))
    with pytest.raises(InputError, match="does not answer with probabilities"):
        SoftDisagreement(logits, logits).anomaly_score(pictures)
    with pytest.raises(InputError, match="does not answer with probabilities"):
        Strip(logits, overlays=pictures[:4]).anomaly_score(pictures)


def test_a_file_says_nothing_about_its_own_output(tmp_path):
    from badnet_defense.nets import save_net

    model = net([*body(), layers.Dense(CLASSES, activation="softmax")])
    save_net(model, tmp_path / "net.h5", attributes={FORM: LOGITS})
    with pytest.raises(UnsafeNetError, match=FORM):
        read_classifier(tmp_path / "net.h5")
    assert isinstance(model, keras.Model)
