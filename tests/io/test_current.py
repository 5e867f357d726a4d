"""What a result depends on, and whether it is what today's code would give."""

from dataclasses import dataclass, replace

import pytest

from badnet_defense.io import current
from badnet_defense.io.current import CODE_VERSIONS, DEPENDS_ON, dependencies, is_current
from badnet_defense.registry import Registry


@dataclass(frozen=True)
class NothingConfig:
    pass


registry = Registry("repair", "badnet_defense.no_such_group", ())


@registry.register("nothing", summary="changes nothing", config=NothingConfig, version=3)
def nothing(net, data, *, config=None, seed=0):
    return net, {}


def asked(**changes):
    what = {
        "inputs": {"net": "ab", "clean": "cd"},
        "settings": {"seed": 0, "sides": (1, 2)},
        "parts": ["answers", "repair"],
        "methods": [("repair", registry["nothing"])],
    }
    return dependencies(**{**what, **changes})


RESULT = {"accuracy": 1.0, DEPENDS_ON: asked()}


def test_a_result_of_the_same_inputs_settings_and_versions_is_current():
    assert is_current(RESULT, asked())
    assert RESULT[DEPENDS_ON]["versions"] == {"answers": 1, "repair": 1, "repair nothing": 3}
    assert RESULT[DEPENDS_ON]["settings"]["sides"] == [1, 2]  # as JSON gives it back


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": {"net": "ab", "clean": "ce"}},
        {"inputs": {"net": "ab"}},
        {"settings": {"seed": 1, "sides": (1, 2)}},
        {"parts": ["answers"]},
        {"methods": []},
        {"methods": [("repair", replace(registry["nothing"], version=4))]},
        {"methods": [("detector", registry["nothing"])]},
    ],
)
def test_whatever_differs_a_result_is_not_current(changes):
    assert not is_current(RESULT, asked(**changes))


def test_a_raised_version_of_a_part_and_another_library_make_it_old(monkeypatch):
    monkeypatch.setitem(CODE_VERSIONS, "calibration", 9)  # not one of its parts
    assert is_current(RESULT, asked())
    with monkeypatch.context() as patch:
        patch.setitem(CODE_VERSIONS, "repair", 9)
        assert not is_current(RESULT, asked())
    installed = current.versions()
    monkeypatch.setattr(current, "versions", lambda: {**installed, "badnet_defense": "9"})
    assert is_current(RESULT, asked())  # a release alone changes no figure
    monkeypatch.setattr(current, "versions", lambda: {**installed, "numpy": "9"})
    assert not is_current(RESULT, asked())


def test_no_result_and_one_that_says_nothing_are_not_current():
    assert not is_current({}, asked()) and not is_current({"accuracy": 1.0}, asked())


def test_a_part_that_has_no_version_is_a_mistake():
    with pytest.raises(KeyError, match="no part"):
        asked(parts=["no part"])
