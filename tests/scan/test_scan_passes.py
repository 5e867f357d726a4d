"""The registry of scan passes, what another package's pass does, and the public function."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from planted_net import (
    CLASSES,
    RUNGS,
    SHAPE,
    TARGET,
    assert_equal_scans,
    clean_images,
    planted_net,
    scanned,
    short_rungs,
)

import badnet_defense
from badnet_defense.errors import InputError
from badnet_defense.nets import describe
from badnet_defense.nets.input_range import InputRange
from badnet_defense.scan import SCAN_PASSES
from badnet_defense.scan.inversion_passes import SharpConfig, sharp, smooth
from badnet_defense.scan.registry import INVERSION, WEIGHTS, passes_of
from badnet_defense.scan.scan import scan, scan_images
from badnet_defense.scan.schedule import BUDGETS


@pytest.fixture(scope="module")
def net():
    return describe(planted_net())


@pytest.fixture(scope="module")
def data():
    return clean_images(120)


@dataclass(frozen=True)
class OtherConfig:
    min_gap: float = 0.5


@pytest.fixture
def registered():
    """A function that registers a pass for one test, as another package's module would."""
    names = []

    def register(name, kind, run):
        names.append(name)
        SCAN_PASSES.names()  # the package's own come first
        SCAN_PASSES.register(name, summary="another", config=OtherConfig, kind=kind)(run)

    yield register
    for name in names:
        del SCAN_PASSES._methods[name]


def test_the_package_s_passes():
    assert SCAN_PASSES.names() == ("sharp", "smooth", "weights")
    assert [one.name for one in passes_of(INVERSION)] == ["sharp", "smooth"]
    assert [one.name for one in passes_of(WEIGHTS)] == ["weights"]
    assert SCAN_PASSES.group == "badnet_defense.scan_passes"


@pytest.mark.parametrize("budget", list(BUDGETS))
def test_the_smooth_pass_takes_one_rung_like_the_sharp_one_s_last(budget):
    own, (other,) = sharp(budget), smooth(budget)
    assert len(own) == len(BUDGETS[budget]) and {rung.shift for rung in own} == {0.06}
    assert replace(other, shift=own[-1].shift, blur=own[-1].blur) == own[-1]
    assert {rung.shift for rung in sharp(budget, SharpConfig(shift=0.2))} == {0.2}


def test_another_inversion_pass_takes_part(net, data, registered):
    first = scanned(net, data.images)
    registered("wide", INVERSION, lambda budget, config: (replace(RUNGS[-1], shift=0.2),))
    found = scanned(net, data.images)
    assert [one.name for one in found.passes] == ["sharp", "smooth", "wide"]
    wide = found.passes[2]
    assert (wide.shift, wide.min_gap) == (0.2, 0.5) and wide.norms.argmin() == TARGET
    for one, other in zip(found.passes[:2], first.passes, strict=True):
        np.testing.assert_array_equal(one.norms, other.norms)  # it goes on where they end
    sums = sum(one.outliers.index for one in found.passes)
    assert np.corrcoef(found.joint.index, sums)[0, 1] == pytest.approx(1)
    assert found.flagged() == [TARGET]


def test_a_pass_alone_flags_by_its_own_gap(net, data, registered):
    registered("wide", INVERSION, lambda budget, config: RUNGS[-1:])
    found = scanned(net, data.images)
    flat = replace(found.joint, index=np.zeros(CLASSES), flagged=())
    *others, wide = found.passes
    same = np.full(CLASSES, 5.0)
    usual = tuple(
        replace(one, outliers=replace(one.outliers, values=same, index=np.zeros(CLASSES)))
        for one in others
    )
    alone = replace(found, passes=(*usual, wide), joint=flat)
    assert alone.flagged_by(TARGET) == "wide pass"
    demanding = replace(wide, min_gap=100.0)
    assert replace(alone, passes=(*usual, demanding)).flagged() == []


def test_another_weights_pass_takes_part(net, data, registered):
    scores = np.where(np.arange(CLASSES) == 3, 50.0, np.linspace(0, 1, CLASSES))
    registered("last layer", WEIGHTS, lambda net, config: scores)
    found = scanned(net, data.images)
    assert list(found.weights) == ["last layer"]  # the planted net's own end has none to read
    assert found.weights["last layer"].argmax() == 3
    assert found.joint.index[3] > scanned_without(net, data).joint.index[3]


def scanned_without(net, data):
    with pytest.MonkeyPatch.context() as patch:
        silent = replace(SCAN_PASSES["last layer"], run=lambda net, config: None)
        patch.setitem(SCAN_PASSES._methods, "last layer", silent)
        return scanned(net, data.images)


# The public function -----------------------------------------------------------------------------


def test_the_function_and_the_package_of_its_name_are_one(net, data, monkeypatch):
    short_rungs(monkeypatch)
    expected = scan_images(net, data.images)
    assert_equal_scans(scan(net, data), expected)
    assert_equal_scans(badnet_defense.scan(net, data), expected)
    assert expected.verdict().verdict == "backdoored" and expected.flagged() == [TARGET]
    mask, pattern, success = expected.trigger(TARGET)
    assert mask.shape == (*SHAPE[:2], 1) and pattern.shape == SHAPE and success > 0.9
    assert scan(net, data, labels=[2, TARGET]).asked.tolist() == [2, TARGET]
    other = scan(net, data, seed=1)
    assert (other.passes[0].masks != expected.passes[0].masks).any()


def test_the_function_refuses_a_wrong_range(data):
    raw = describe(planted_net(span=255.0))
    with pytest.raises(InputError, match="0,255"):
        scan(raw, data)
    scan_range = raw.with_range(InputRange(0, 255))
    with pytest.MonkeyPatch.context() as patch:
        short_rungs(patch)
        assert scan(scan_range, data).flagged() == [TARGET]
