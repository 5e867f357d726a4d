"""A quick repair and what a small grid is asked for."""

from dataclasses import replace
from functools import partial

from badnet_defense.nets.input_range import UNIT
from badnet_defense.repairs.fine_tuning import tune_alone
from badnet_defense.repairs.recipes import RECIPES

QUICK = partial(tune_alone, recipe=replace(RECIPES["classic"], epochs=1))
ASKED = {
    "repairs": ["fine-tuning"],
    "detectors": ["hard", "sentinet"],
    "seeds": [0],
    "scans": "no such folder",
    "false_positive_rate": 0.2,
    "input_range": UNIT,
}
