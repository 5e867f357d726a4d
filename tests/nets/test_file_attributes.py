"""What a net's file may note of how it was made: one schema with bounds, checked once."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hostile_base import h5_net
from hostile_nets import refused

from badnet_defense.errors import InputError
from badnet_defense.io.repair_record import RepairRecord
from badnet_defense.nets import read_net
from badnet_defense.nets.file_attributes import checked_attributes
from badnet_defense.repairs.recipes import RECIPES

RECIPE = asdict(RECIPES["default"])
PRUNING = {"layer": "conv_3", "order": [2, 0, 1], "removed": 2, "curve": [0.9, 0.8]}
HONEST = {
    "source_sha256": "0a" * 32,
    "synthetic": np.bool_(True),
    "made_by": "badnet_defense demo",
    "pruning": json.dumps(PRUNING),
    "recipe": json.dumps(RECIPE),
    "input_range": "-1,1",
    "keep_pruned": False,
    "tuned_on": "1b" * 32,
    "tuned_on_parts": 3,
    "tuned_on_seed": np.int64(7),
    "tuned_on_pseudo_labels": np.bool_(False),
    "method": "fine-pruning",
    "max_accuracy_drop": 0.1,
    "repair_record": RepairRecord(
        method="anp", config={}, source_sha256="0a" * 32, input_range="0,1", seed=0
    ).to_json(),
}


def noted(tmp_path, notes):
    return h5_net(tmp_path, None, lambda file: file.attrs.update(notes))


def test_honest_notes_are_read_as_plain_values(tmp_path):
    found = read_net(noted(tmp_path, HONEST)).attributes
    assert {name: found[name] for name in HONEST} == HONEST
    assert all(type(found[name]) in (str, int, float, bool) for name in HONEST)


def recipe(**changes):
    return json.dumps({**RECIPE, **changes})


def pruning(**changes):
    return json.dumps({**PRUNING, **changes})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("recipe", recipe(epochs=100_000), "epochs to be a number from 0 to 2000"),
        ("recipe", recipe(epochs=True), "epochs to be a number"),
        ("recipe", recipe(epochs=2.5), "epochs to be a number"),
        ("recipe", recipe(epochs=-1), "epochs to be a number"),
        ("recipe", recipe(batch_size=0), "batch_size to be a number from 1"),
        ("recipe", recipe(least_steps=10**9), "least_steps to be a number"),
        ("recipe", recipe(learning_rate=float("nan")), "learning_rate to be a number"),
        ("recipe", recipe(learning_rate=True), "learning_rate to be a number"),
        ("recipe", recipe(learning_rate="1"), "learning_rate to be a number"),
        ("recipe", recipe(shift=0.6), "shift to be a number from 0 to 0.5"),
        ("recipe", recipe(decays=1), "decays to be true or false"),
        ("recipe", recipe(optimizer="\x1b[2J"), "printable texts"),
        ("recipe", json.dumps({"epochs": 1}), "least_steps to be a number"),
        ("recipe", "[]", "a JSON object"),
        ("recipe", "[" * 100_000, "a JSON object"),
        ("pruning", pruning(removed=4), "how many of them were removed"),
        ("pruning", pruning(removed=True), "how many of them were removed"),
        ("pruning", pruning(order=[0, -1]), "channels in order"),
        ("pruning", pruning(order=[0, 1.5]), "channels in order"),
        ("pruning", pruning(order="012"), "channels in order"),
        ("pruning", pruning(layer="../x\n"), "a layer's name"),
        ("pruning", pruning(curve=[float("inf")]), "finite numbers"),
        ("pruning", pruning(more=["\x1b]0;x\x07"]), "printable texts"),
        ("source_sha256", "0" * 63, "a SHA-256"),
        ("source_sha256", "0A" * 32, "a SHA-256"),
        ("tuned_on", 3, "a SHA-256"),
        ("input_range", "0,nan", "two numbers like 0,255"),
        ("input_range", "1,0", "two numbers like 0,255"),
        ("input_range", "0,1\x1b[31m", "two numbers like 0,255"),
        ("keep_pruned", 1, "true or false"),
        ("synthetic", "yes", "true or false"),
        ("tuned_on_seed", True, "a number from 0"),
        ("tuned_on_seed", -1, "a number from 0"),
        ("tuned_on_seed", 1.0, "a number from 0"),
        ("tuned_on_seed", 2**40, "a number from 0"),
        ("method", "\x1b[2J", "a method's name"),
        ("made_by", "x\ny", "a few words"),
        ("max_accuracy_drop", float("nan"), "a number from 0 to 1"),
        ("max_accuracy_drop", 1.5, "a number from 0 to 1"),
        ("max_accuracy_drop", [0.1, 0.2], "whole net"),
        ("repair_record", "{}", "a record of format 1"),
        ("repair_record", 1, "a JSON object"),
        ("repair_record", HONEST["repair_record"].replace("anp", "\x1b[2J"), "a JSON object"),
    ],
)
def test_a_damaged_note_is_one_sentence(name, value, expected, tmp_path):
    message = refused(noted(tmp_path, {name: value}), error=InputError)
    assert expected in message and message.isprintable()
    assert "\x1b" not in message


def test_notes_are_checked_again_behind_the_reader():
    with pytest.raises(InputError, match="'evil' is 'x'"):
        checked_attributes({"evil": "x"})
    with pytest.raises(InputError, match="make the repair again"):
        checked_attributes({"tuned_on_seed": 0.5})
