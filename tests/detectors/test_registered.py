"""What holds for every registered detector, on a small net with a planted trigger."""

import numpy as np
import pytest
from backdoored_nets import stamped_by_hand
from planted_net import CLASSES, TARGET, clean_images, planted_net, planted_trigger

from badnet_defense.detectors import DETECTORS, DetectorConfig, make_detector
from badnet_defense.detectors.registry import has_threshold, name_of, roles_of
from badnet_defense.nets import describe

RATE = 0.05


def expert_model():
    """The planted net after it forgot its task: it answers by the patch alone."""
    model = planted_net()
    colours = model.get_layer("by_colour")
    colours.set_weights([0 * weights for weights in colours.get_weights()])
    return model


@pytest.fixture(scope="module")
def nets():
    """The planted net, the same without its backdoor, and one that knows nothing else."""
    models = {"suspect": planted_net(), "repaired": planted_net(target=None)}
    return {role: describe(model) for role, model in {**models, "expert": expert_model()}.items()}


@pytest.fixture(scope="module", params=DETECTORS.names())
def fitted(request, nets):
    detector = make_detector(request.param, nets, false_positive_rate=RATE)
    return detector.fit(clean_images(600, seed=2).images)


def test_it_flags_a_planted_trigger_at_its_promised_rate(fitted, nets):
    fresh = clean_images(300, seed=3)
    others = fresh.images[fresh.labels != TARGET]
    triggered = stamped_by_hand(others, *planted_trigger())
    assert np.mean(nets["suspect"].predict(triggered) == TARGET) > 0.95  # the backdoor works
    assert np.mean(fitted.predict(triggered) == CLASSES) > 0.9


def test_fresh_clean_images_are_flagged_as_seldom_as_promised(fitted):
    fresh = clean_images(1000, seed=4)
    seen = np.mean(fitted.predict(fresh.images) == CLASSES)
    slack = 3 * np.sqrt(RATE * (1 - RATE) / len(fresh))
    assert fitted.expected_.low - slack < seen < fitted.expected_.high + slack
    if has_threshold(name_of(fitted)):
        assert fitted.expected_.rate <= RATE


def test_what_is_not_flagged_gets_the_suspect_model_s_class(fitted, nets):
    fresh = clean_images(100, seed=5).images
    answers = fitted.predict(fresh)
    passed = answers < CLASSES
    assert passed.mean() > 0.7
    np.testing.assert_array_equal(answers[passed], nets["suspect"].predict(fresh)[passed])


def test_its_settings_are_a_config_with_a_rate(fitted):
    method = DETECTORS[name_of(fitted)]
    assert isinstance(fitted.config, DetectorConfig) and fitted.config.false_positive_rate == RATE
    assert method.defaults()["false_positive_rate"] == 0.01
    assert method.summary and method.facts["score"]
    assert set(fitted.nets) <= set(roles_of(method.name))
