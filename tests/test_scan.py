"""Scans of a net with a planted backdoor: what is flagged, what is judged, what survives a stop."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers
from small_nets import images
from small_project import ROOT

from badnet_defense.data import InputRange, write_challenge_h5
from badnet_defense.nets import build, describe, predict_labels, save_net
from badnet_defense.runs.scanning import scan_file
from badnet_defense.scan import judging, schedule
from badnet_defense.scan import scan as scanning
from badnet_defense.scan.judging import judge_triggers
from badnet_defense.scan.outliers import mad_outliers
from badnet_defense.scan.progress import Progress
from badnet_defense.scan.scan import scan
from badnet_defense.scan.schedule import Rung
from badnet_defense.scan.trigger_inversion import Inversion

SHAPE = (12, 12, 3)
CLASSES, TARGET = 10, 7
PATCH = np.array([[[1, 0, 1], [0, 1, 0]], [[0, 1, 0], [1, 0, 1]]], np.float32)
"""The planted trigger: 2x2 pixels, magenta and green."""
SETTINGS = Inversion(shift=0.1, patience=1000)
RUNGS = (Rung(25, 8), Rung(40, 16))


def planted_net(*, span=1.0, target=TARGET):
    """A net that answers by the colours of the quarters, and `target` wherever it sees the patch.

    All weights are set by hand but the colours' own, which are drawn, equally large for all
    classes. Of five channels the first finds the patch, three are local means of the colours, and
    the last is dead.

    Args:
        span: what the net takes for white; black is 0.
        target: None plants nothing.
    """
    pictures = keras.Input(SHAPE, name="pictures")
    x = layers.Conv2D(5, 2, activation="relu", name="conv")(pictures)
    quarters = layers.Flatten(name="rows")(layers.AveragePooling2D(5, name="quarters")(x))
    peaks = layers.GlobalMaxPooling2D(name="peaks")(x)
    by_colour = layers.Dense(CLASSES, name="by_colour")(quarters)
    by_patch = layers.Dense(CLASSES, use_bias=False, name="by_patch")(peaks)
    x = layers.Add(name="sum")([by_colour, by_patch])
    model = keras.Model(pictures, layers.Activation("softmax", name="answers")(x))
    kernel = np.zeros((2, 2, 3, 5), np.float32)
    kernel[..., 0] = 2 * PATCH - 1
    for colour in range(3):
        kernel[:, :, colour, 1 + colour] = 0.25
    model.get_layer("conv").set_weights([kernel / span, np.zeros(5)])
    colours = np.random.default_rng(0).normal(0, 1, (2, 2, 5, CLASSES))
    colours[:, :, [0, 4]] = 0
    colours *= 20 / np.sqrt((colours**2).sum(axis=(0, 1, 2)))
    alarm = np.zeros((5, CLASSES))
    if target is not None:
        alarm[0, target] = 6
    model.get_layer("by_patch").set_weights([alarm])
    model.get_layer("by_colour").set_weights([colours.reshape(20, CLASSES), np.zeros(CLASSES)])
    shown = images(200, shape=SHAPE).pictures / np.float32(255 / span)
    means = keras.Model(pictures, x)(shown).numpy().mean(axis=0)
    model.get_layer("by_colour").set_weights([colours.reshape(20, CLASSES), -means])
    return model


def clean_images(count=200, *, seed=1, span=1.0):
    """Pictures with the planted net's own answers as labels."""
    found = images(count, shape=SHAPE, seed=seed)
    answers = predict_labels(
        planted_net(span=span), found.pictures, input_range=InputRange(0, span)
    )
    return replace(found, labels=answers)


def planted_trigger(opacity=1.0, place=(4, 6)):
    """(mask, pattern) of the planted trigger."""
    mask, pattern = np.zeros((*SHAPE[:2], 1), np.float32), np.zeros(SHAPE, np.float32)
    rows, columns = (slice(start, start + 2) for start in place)
    mask[rows, columns], pattern[rows, columns] = opacity, PATCH
    return mask, pattern


def plain_success(model, pictures, mask, pattern, label):
    """Share of the pictures of other classes that answer with the label once they are stamped."""
    clean = pictures / np.float32(255)
    others = clean[model(clean).numpy().argmax(axis=1) != label]
    stamped = np.stack([one * (1 - mask) + mask * pattern for one in others])
    return np.mean(model(stamped).numpy().argmax(axis=1) == label)


@pytest.fixture(scope="module")
def model():
    return planted_net()


@pytest.fixture(scope="module")
def spec(model):
    return describe(model)


@pytest.fixture(scope="module")
def pictures():
    return images(200, shape=SHAPE).pictures


def scanned(spec, pictures, *, rungs=RUNGS, **changes):
    """A scan with short rungs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(schedule.BUDGETS, "fast", rungs)
        return scan(spec, pictures, **{"settings": SETTINGS, **changes})


@pytest.fixture(scope="module")
def found(spec, pictures):
    return scanned(spec, pictures)


def assert_equal_scans(one, other):
    for name in ("labels", "norms", "stopped", "finished", "masks", "patterns", "attack_success"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for name in ("outliers", "mad"):
        found, expected = getattr(one, name), getattr(other, name)
        np.testing.assert_array_equal(found.index, expected.index)
        assert found.flagged == expected.flagged


# What is found -----------------------------------------------------------------------------------


def test_the_planted_label_alone_is_flagged(found):
    assert found.flagged() == [TARGET]
    others = np.delete(found.norms, TARGET)
    assert found.norms[TARGET] < others.min() / 4
    assert found.labels.tolist() == found.finished.tolist() == list(range(CLASSES))
    assert not found.stopped.any()


def test_its_trigger_works_on_other_pictures_too(found, model):
    mask, pattern, success = found.trigger(TARGET)
    fresh = images(120, shape=SHAPE, seed=9).pictures
    assert plain_success(model, fresh, mask, pattern, TARGET) > 0.9 and success > 0.9
    row, column = np.unravel_index(mask[..., 0].argmax(), SHAPE[:2])
    near = mask[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    assert near.sum() > 0.8 * mask.sum()  # a spot, as it was planted


def test_figures_are_those_of_the_masks(found, model, pictures):
    assert found.masks.shape == (CLASSES, *SHAPE[:2], 1)
    assert found.patterns.shape == (CLASSES, *SHAPE)
    for triggers in (found.masks, found.patterns):
        assert triggers.dtype == np.float32 and triggers.min() >= 0 and triggers.max() <= 1
    np.testing.assert_allclose(found.norms, found.masks.sum(axis=(1, 2, 3)), rtol=1e-5)
    for label in (0, TARGET):
        mask, pattern, success = found.trigger(label)
        plain = plain_success(model, pictures, mask, pattern, label)
        assert success == pytest.approx(plain, abs=0.011)  # a picture more or less may be on edge
    plain = mad_outliers(found.norms)
    np.testing.assert_array_equal(found.mad.index, plain.index)


def test_net_without_a_backdoor_has_no_flagged_label(pictures):
    assert scanned(describe(planted_net(target=None)), pictures).flagged() == []


def test_same_seed_same_scan(spec, pictures, found):
    assert_equal_scans(scanned(spec, pictures), found)
    other = scanned(spec, pictures, seed=1)
    assert (other.masks != found.masks).any() and other.flagged() == [TARGET]


def test_net_for_another_range_has_the_same_triggers(pictures, found):
    """A factor of 256 between the ranges changes no bit of what is computed."""
    raw = describe(planted_net(span=256.0))
    again = scanned(raw, pictures, input_range=InputRange(0, 256))
    assert_equal_scans(again, found)


def test_chosen_labels_alone(spec, pictures, found):
    chosen = scanned(spec, pictures, labels=[8, TARGET, 2])
    assert chosen.labels.tolist() == [8, TARGET, 2]
    assert chosen.norms.argmin() == 1 and chosen.trigger(TARGET)[2] > 0.9
    np.testing.assert_allclose(chosen.norms[1], found.norms[TARGET], rtol=0.1)


@pytest.mark.parametrize("patience", [1000, 10])
def test_how_many_labels_go_at_once_plays_no_part(spec, pictures, monkeypatch, patience):
    """Also where a batch ends before its steps do, since the patience with all of it is over."""
    settings = replace(SETTINGS, patience=patience)
    together = scanned(spec, pictures, settings=settings)
    monkeypatch.setattr(scanning, "LABELS_AT_ONCE", 1)
    alone = scanned(spec, pictures, settings=settings)
    np.testing.assert_allclose(alone.norms, together.norms, rtol=0.02)


# Labels that stop early --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def halved(spec, pictures):
    """(scan, references) of ten labels of which four go all the way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "LEAST", 1)
        patch.setattr(schedule, "REFERENCES", 2)
        references = schedule.references(np.arange(CLASSES), seed=0)
        return scanned(spec, pictures, rungs=(Rung(25, 8, 0.2), Rung(40, 16))), references


def test_large_triggers_stop_early(halved, found):
    stopping, references = halved
    assert stopping.labels[stopping.norms.argmin()] == TARGET
    assert stopping.flagged() == []  # two references can't tell what is usual
    finished = set(stopping.finished.tolist())
    assert len(finished) == 4 and {TARGET} | references <= finished
    np.testing.assert_array_equal(stopping.stopped, [one not in finished for one in range(CLASSES)])
    assert len(stopping.masks) == len(stopping.patterns) == len(stopping.attack_success) == 4
    for place, label in enumerate(stopping.finished):
        assert stopping.norms[label] == pytest.approx(stopping.masks[place].sum(), rel=1e-5)


def test_norms_of_stopped_labels_are_lower_bounds(halved, found):
    """Those that they have once they go all the way are larger, or hardly smaller."""
    stopping, _ = halved
    early = stopping.norms[stopping.stopped]
    assert (early > 0).all() and np.isfinite(early).all()
    assert (early < 1.15 * found.norms[stopping.stopped]).all()
    assert stopping.norms[TARGET] < early.min()


def test_a_stopped_label_is_never_flagged(found):
    stopped = np.arange(CLASSES) == TARGET
    assert replace(found, stopped=stopped).flagged() == []


# Judging -----------------------------------------------------------------------------------------


def test_a_mask_that_misses_the_goal_grows_until_it_meets_it(model, spec, pictures, monkeypatch):
    monkeypatch.setattr(judging, "GROWTH", (1.0, 1.2, 1.5, 2.0, 3.0))
    mask, pattern = planted_trigger(0.4)
    successes = {
        factor: plain_success(model, pictures, np.minimum(mask * factor, 1), pattern, TARGET)
        for factor in judging.GROWTH
    }
    goal = (successes[1.2] + successes[1.5]) / 2
    assert successes[1.0] <= successes[1.2] < goal < successes[1.5]
    net = build(spec)
    masks, found = judge_triggers(net, [TARGET], mask[None], pattern[None], pictures, goal=goal)
    np.testing.assert_allclose(masks[0], mask * 1.5, rtol=1e-6)
    assert found[0] == pytest.approx(successes[1.5], abs=0.011)
    # Met at once, a mask stays as it is.
    masks, _ = judge_triggers(net, [TARGET], 2 * mask[None], pattern[None], pictures, goal=goal)
    np.testing.assert_array_equal(masks[0], 2 * mask)


def test_a_mask_that_cannot_meet_the_goal_is_as_faint_as_its_best_success_allows(
    spec, pictures, monkeypatch
):
    """Half opaque it has all the success that it will ever have."""
    scripted = {1.0: 0.3, 2.0: 0.796, 4.0: 0.80, 8.0: 0.7}
    monkeypatch.setattr(judging, "GROWTH", tuple(scripted))

    def answers(net, shown, **settings):
        if shown.dtype == np.uint8:  # the clean pictures
            return np.zeros(len(shown), int)
        factor = (shown[0, 0, 0, 0] - pictures[0, 0, 0, 0]) / (255 - pictures[0, 0, 0, 0]) * 8
        return np.where(np.arange(len(shown)) < scripted[round(float(factor))] * len(shown), 1, 0)

    monkeypatch.setattr(judging, "predict_labels", answers)
    mask, pattern = np.full((*SHAPE[:2], 1), 0.125), np.ones(SHAPE)
    masks, success = judge_triggers(None, [1], mask[None], pattern[None], pictures, goal=0.99)
    np.testing.assert_allclose(masks[0], 0.25)
    assert success[0] == pytest.approx(0.795, abs=0.01)


def test_a_hopeless_mask_stays_as_it_is(spec, pictures):
    mask, pattern = np.zeros((*SHAPE[:2], 1), np.float32), np.ones(SHAPE, np.float32)
    masks, success = judge_triggers(build(spec), [2], mask[None], pattern[None], pictures)
    np.testing.assert_array_equal(masks[0], mask)
    assert success[0] == 0


def test_pictures_that_have_the_label_anyway_do_not_judge(spec, pictures):
    """An invisible trigger has no success, however many pictures are of its class."""
    net = build(spec)
    answers = predict_labels(net, pictures)
    most = np.bincount(answers).argmax()
    chosen = pictures[np.argsort(answers != most, kind="stable")][:40]
    assert np.mean(predict_labels(net, chosen) == most) > 0.5
    mask, pattern = np.zeros((*SHAPE[:2], 1), np.float32), np.ones(SHAPE, np.float32)
    _, success = judge_triggers(net, [most], mask[None], pattern[None], chosen)
    assert success[0] == 0


# Progress ----------------------------------------------------------------------------------------


def unit(first=0):
    return {"mask": np.arange(first, first + 6.0).reshape(2, 3), "cost": np.float32([0.1, 0.3])}


def never():
    raise AssertionError("this unit was there already")


def assert_equal_units(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_a_finished_unit_is_not_made_again(tmp_path):
    made = Progress(tmp_path / "a/b.partial", {"net": 1}).get("first", unit)
    again = Progress(tmp_path / "a/b.partial", {"net": 1}).get("first", never)
    assert_equal_units(again, made)
    assert_equal_units(made, unit())


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    progress = Progress(None, {})
    assert_equal_units(progress.get("first", unit), unit())
    assert_equal_units(progress.get("first", lambda: unit(5)), unit(5))
    progress.forget()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("left", [0, 1, 5, 60, 0.5, 0.95])
def test_a_truncated_unit_is_made_again(tmp_path, left):
    progress = Progress(tmp_path / "p", {})
    progress.get("first", unit)
    path = tmp_path / "p/first.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(left * len(whole)) if left < 1 else left])
    assert_equal_units(progress.get("first", lambda: unit(3)), unit(3))
    assert_equal_units(Progress(tmp_path / "p", {}).get("first", never), unit(3))


def test_a_unit_that_holds_something_else_is_made_again(tmp_path):
    progress = Progress(tmp_path / "p", {})
    (tmp_path / "p/first.npz").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert_equal_units(progress.get("first", unit), unit())


def test_a_unit_that_was_not_finished_leaves_nothing(tmp_path):
    def stopped():
        raise KeyboardInterrupt

    progress = Progress(tmp_path / "p", {})
    with pytest.raises(KeyboardInterrupt):
        progress.get("first", stopped)
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["scan.json"]


def test_another_scan_s_units_are_thrown_away(tmp_path):
    Progress(tmp_path / "p", {"seed": 0}).get("first", unit)
    other = Progress(tmp_path / "p", {"seed": 1})
    assert_equal_units(other.get("first", lambda: unit(9)), unit(9))
    other.forget()
    assert not (tmp_path / "p").exists()


# Scans that are stopped --------------------------------------------------------------------------

THREE = (Rung(12, 8), Rung(12, 12), Rung(20, 16))


class Counted(Progress):
    """Notes the units that it makes, and stops in the middle of the unit `stop`."""

    def __init__(self, folder, *, stop=None):
        super().__init__(folder, {"scan": "a"})
        self.stop, self.made = stop, []

    def get(self, name, make):
        def counted():
            self.made.append(name)
            done = make()
            if len(self.made) == self.stop:
                raise KeyboardInterrupt
            return done

        return super().get(name, counted)


@pytest.fixture
def three_at_once(monkeypatch):
    """Three rungs in four units each."""
    monkeypatch.setattr(scanning, "LABELS_AT_ONCE", 3)


@pytest.fixture(scope="module")
def whole(spec, pictures):
    """A scan of those rungs that nothing stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanning, "LABELS_AT_ONCE", 3)
        return scanned(spec, pictures, rungs=THREE)


@pytest.mark.parametrize("stop", [2, 5, 12])
def test_a_stopped_scan_goes_on_to_the_same_bits(
    spec, pictures, tmp_path, three_at_once, whole, stop
):
    """Stopped within the first rung, at a rung's end, and in the last unit."""
    first, second = Counted(tmp_path / "p", stop=stop), Counted(tmp_path / "p")
    with pytest.raises(KeyboardInterrupt):
        scanned(spec, pictures, rungs=THREE, progress=first)
    assert len(list((tmp_path / "p").glob("*.npz"))) == stop - 1
    resumed = scanned(spec, pictures, rungs=THREE, progress=second)
    assert len(second.made) == 13 - stop and not set(first.made[:-1]) & set(second.made)
    assert_equal_scans(resumed, whole)


def test_a_damaged_unit_costs_that_unit_alone(spec, pictures, tmp_path, three_at_once, whole):
    scanned(spec, pictures, rungs=THREE, progress=Counted(tmp_path / "p"))
    damaged = sorted((tmp_path / "p").glob("*.npz"))[5]
    damaged.write_bytes(damaged.read_bytes()[:-200])
    progress = Counted(tmp_path / "p")
    assert_equal_scans(scanned(spec, pictures, rungs=THREE, progress=progress), whole)
    assert progress.made == [damaged.stem]


def test_a_stopped_scan_of_fewer_and_fewer_labels(spec, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "LEAST", 1)
    monkeypatch.setattr(schedule, "REFERENCES", 2)
    rungs = (Rung(12, 8, 0.4), Rung(12, 8, 0.2), Rung(20, 16))
    first, second = Counted(tmp_path / "p", stop=3), Counted(tmp_path / "p")
    with pytest.raises(KeyboardInterrupt):
        scanned(spec, pictures, rungs=rungs, progress=first)
    resumed = scanned(spec, pictures, rungs=rungs, progress=second)
    assert len(second.made) == 1 and resumed.stopped.any()
    assert_equal_scans(resumed, scanned(spec, pictures, rungs=rungs))


# Killed ------------------------------------------------------------------------------------------

UNITS = 6
SHORT = """
from badnet_defense import __main__, console
from badnet_defense.scan import scan, schedule

scan.LABELS_AT_ONCE = 4
schedule.BUDGETS["fast"] = (schedule.Rung(30, 8), schedule.Rung(40, 12))
console.run(__main__.main)
"""


@pytest.fixture
def short(monkeypatch):
    """The same settings for this process: two rungs of three units each."""
    monkeypatch.setattr(scanning, "LABELS_AT_ONCE", 4)
    monkeypatch.setitem(schedule.BUDGETS, "fast", (Rung(30, 8), Rung(40, 12)))


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("rung*.npz")}


def kill_after_the_first_unit(folder, command):
    """Runs the command and kills it, without a word, once a unit lies in `folder`."""
    with subprocess.Popen(
        [sys.executable, "-c", SHORT, *map(str, command)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        end = time.monotonic() + 200
        while not times(folder) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def test_a_killed_command_goes_on_to_the_same_result(tmp_path, short, monkeypatch):
    net, clean = tmp_path / "net.h5", tmp_path / "clean.h5"
    save_net(planted_net(), net)
    write_challenge_h5(clean, clean_images(80))
    units = tmp_path / "killed.partial"
    command = ["scan", net, "--clean", clean, "--out", tmp_path / "killed"]
    kill_after_the_first_unit(units, command)
    done, at_the_end, forget = times(units), {}, Progress.forget
    assert 1 <= len(done) < UNITS and not (tmp_path / "killed.json").exists()

    def look_and_forget(progress):
        at_the_end.update(times(progress.folder))
        forget(progress)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "forget", look_and_forget)
        scan_file(net, clean, out=tmp_path / "killed")
    assert len(at_the_end) == UNITS and done.items() <= at_the_end.items()  # none made again
    assert not units.exists()

    scan_file(net, clean, out=tmp_path / "whole")
    results = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("killed", "whole")]
    for key in ("all", "flagged", "median", "mad", "mad_flagged", "limit"):
        assert results[0][key] == results[1][key]
    with np.load(tmp_path / "killed.npz") as one, np.load(tmp_path / "whole.npz") as other:
        assert set(one) == set(other)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
