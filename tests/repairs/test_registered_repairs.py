"""What holds for every registered repair, those of other packages among them."""

from dataclasses import dataclass, fields, is_dataclass, replace

import numpy as np
import pytest
from backdoored_nets import (
    accuracy,
    quarter_images,
    success,
    trained_net,
)
from planted_net import planted_trigger
from small_nets import images

from badnet_defense import registry as registries
from badnet_defense.errors import InputError
from badnet_defense.io import Dataset
from badnet_defense.nets.graph import without_softmax
from badnet_defense.nets.input_range import InputRange
from badnet_defense.registry import Registry
from badnet_defense.repairs import REPAIRS, repair
from badnet_defense.repairs.base import MIN_IMAGES
from badnet_defense.repairs.fine_tuning import FineTuningConfig
from badnet_defense.repairs.pseudo_labels import pseudo_labelled
from badnet_defense.repairs.recipes import Recipe

TARGET = 2
QUICK = FineTuningConfig(tuning=Recipe(learning_rate=1e-3, epochs=1, batch_size=64))


@pytest.mark.parametrize("name", REPAIRS.names())
def test_each_repair_lowers_attack_success(name):
    """With its own settings, on a net that was trained on images of which a fourth are poisoned."""
    net, fresh, trigger = trained_net(), quarter_images(300, seed=8), planted_trigger()
    uses_triggers = REPAIRS[name].facts.get("uses_triggers")
    triggers = [(TARGET, *trigger)] if uses_triggers else None
    repaired, report = repair(net, quarter_images(300), name, seed=3, triggers=triggers)
    assert success(net, fresh, trigger, TARGET) > 0.95
    assert success(repaired, fresh, trigger, TARGET) < 0.8
    assert accuracy(repaired, fresh) > accuracy(net, fresh) - 0.06
    assert report["method"] == name and report["absent"]["classes"] == []


@pytest.mark.parametrize("name", REPAIRS.names())
def test_each_repair_describes_itself(name):
    method = REPAIRS[name]
    assert is_dataclass(method.config) and method.config.__dataclass_params__.frozen
    assert method.summary and "\n" not in method.summary
    assert method.version >= 1
    assert set(method.defaults()) == {field.name for field in fields(method.config)}
    assert method.make_config({}) == method.config()


@dataclass(frozen=True)
class OnePoint:
    """The entry point of another package."""

    value: str
    load: object


def test_a_repair_of_another_package_is_one_of_the_repairs(monkeypatch):
    """Its entry point is loaded when the repairs are first asked for."""

    @dataclass(frozen=True)
    class NoiseConfig:
        scale: float = 0.5

    found = Registry("repair", REPAIRS.group, ())

    def load():
        @found.register("noise", summary="adds noise", config=NoiseConfig)
        def noise(net, data, *, config=NoiseConfig(), targets=None, seed=0):
            return net, {"scale": config.scale}

    def entry_points(*, group):
        assert group == "badnet_defense.repairs"
        return [OnePoint("noisy.repairs", load), OnePoint("broken.repairs", lambda: 1 / 0)]

    monkeypatch.setattr(registries, "entry_points", entry_points)
    assert found.names() == ("noise",)
    config = found["noise"].make_config({"scale": 2.0})
    assert found["noise"].run(None, None, config=config) == (None, {"scale": 2.0})
    with pytest.raises(InputError, match=r"'nose' is unknown.*broken.repairs failed: ZeroDivision"):
        found["nose"]


def test_repair_gives_a_new_net_in_the_same_range():
    """Pixels in -1..1: the same net with other first weights."""
    net = trained_net()
    kernel, bias = net.layers["conv"].weights
    wide = replace(
        net.layers["conv"],
        weights=(kernel / 2, bias + kernel.sum(axis=(0, 1, 2)) / 2),
    )
    ranged = replace(net, layers={**net.layers, "conv": wide}, input_range=InputRange(-1, 1))
    data = quarter_images(100)
    np.testing.assert_allclose(
        ranged.predict_proba(data.images), net.predict_proba(data.images), atol=1e-4
    )
    repaired, report = repair(ranged, data, "fine-tuning", QUICK)
    assert repaired.input_range == InputRange(-1, 1)
    assert accuracy(repaired, data, InputRange(-1, 1)) > 0.8
    assert report["config"]["tuning"]["epochs"] == 1


def test_pseudo_labels_are_the_net_s_predictions():
    net, data = trained_net(), quarter_images(100)
    wrong = replace(data, labels=(data.labels + 1) % 4)
    repaired, _ = repair(net, wrong, "fine-tuning", QUICK, pseudo_labels=True)
    assert accuracy(repaired, data) > 0.8


def test_outputs_that_are_no_probabilities_are_no_pseudo_labels():
    with pytest.raises(InputError, match=r"outputs are no probabilities.*append a softmax"):
        pseudo_labelled(without_softmax(trained_net()), quarter_images(40))


def data_of(change):
    """Clean images that are changed by a function of (images, labels)."""
    data = quarter_images(120)
    return Dataset(*change(data.images, data.labels))


REFUSED = {
    "few": (lambda x, y: (x[:19], y[:19]), f"at least {MIN_IMAGES} clean images.*got 19"),
    "one class": (lambda x, y: (x[y == 1], y[y == 1]), "are of class 1, but the net has 4 classes"),
    "no labels": (lambda x, y: (x, None), "no labels.*pseudo-labels"),
    "other labels": (lambda x, y: (x, np.roll(y, 3)), "expected at least"),
    "other shape": (
        lambda x, y: (x[:, :8], y),
        r"got images of shape \(8, 12, 3\), but the model takes \(12, 12, 3\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_repair_refuses_what_the_command_line_refuses(case):
    change, words = REFUSED[case]
    with pytest.raises(InputError, match=words):
        repair(trained_net(), data_of(change), "fine-tuning", QUICK)


def test_another_input_range_is_refused():
    net = trained_net().with_range(InputRange(0, 255))
    with pytest.raises(InputError, match=r"with pixels in 0,255, but .* with 0,1"):
        repair(net, quarter_images(200), "fine-tuning", QUICK)


def test_refusals_of_methods_and_settings():
    net, data = trained_net(), quarter_images(40)
    with pytest.raises(InputError, match=r"repair 'nothing' is unknown; expected one of fine-"):
        repair(net, data, "nothing")
    with pytest.raises(InputError, match=r"anp: got settings of type FineTuningConfig, .*ANPConf"):
        repair(net, data, "anp", QUICK)
    with pytest.raises(InputError, match="fine-tuning uses no triggers"):
        repair(net, data, "fine-tuning", QUICK, triggers=[(2, *planted_trigger())])
    with pytest.raises(InputError, match="the scan flagged no label"):
        repair(net, data, "scan-pruning", triggers=[])


def test_images_that_a_net_does_not_know():
    with pytest.raises(InputError, match="expected at least"):
        repair(trained_net(), images(60, shape=(12, 12, 3), classes=4), "fine-tuning", QUICK)
