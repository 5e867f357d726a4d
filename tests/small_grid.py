"""A quick repair and a small grid."""

from dataclasses import replace

from badnet_defense.benchmarking.compare import CompareConfig, compare
from badnet_defense.nets.input_range import UNIT
from badnet_defense.repairs.fine_tuning import FineTuningConfig, fine_tune
from badnet_defense.repairs.recipes import RECIPES
from badnet_defense.repairs.registry import REPAIRS


def replace_repair(monkeypatch, name, run, **changes):
    """Puts a function in the place of a registered repair, for one test."""
    changed = replace(REPAIRS[name], run=run, **changes)
    monkeypatch.setitem(REPAIRS._methods, name, changed)


def QUICK(net, data, *, config=None, **how):
    """Fine-tuning for one epoch, whatever the config."""
    recipe = replace(RECIPES["classic"], epochs=1)
    return fine_tune(net, data, config=FineTuningConfig(tuning=recipe), **how)


def compared(cases, *, out, scans="no such folder", executor=None, **asked):
    """What `compare` gives."""
    asked = {name: tuple(one) if isinstance(one, list) else one for name, one in asked.items()}
    config = CompareConfig(**asked)
    return compare(cases, out=out, scans=scans, config=config, executor=executor)


ASKED = {
    "repairs": ["fine-tuning"],
    "detectors": ["hard", "sentinet"],
    "seeds": [0],
    "false_positive_rate": 0.2,
    "input_range": UNIT,
}
