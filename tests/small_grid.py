"""A quick repair and what a small grid is asked for."""

from dataclasses import replace
from functools import partial

from badnet_defense.data.input_range import UNIT
from badnet_defense.repair.recipes import RECIPES
from badnet_defense.repair.tuning_alone import tune_alone

QUICK = partial(tune_alone, recipe=replace(RECIPES["classic"], epochs=1))
ASKED = {
    "repairs": ["fine-tuning"],
    "detectors": ["hard", "sentinet"],
    "seeds": [0],
    "scans": "no such folder",
    "false_alarm_rate": 0.2,
    "input_range": UNIT,
}
