"""Scans of a net with a planted backdoor: what is flagged, what is judged, what survives a stop."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from planted_net import (
    CLASSES,
    SETTINGS,
    SHAPE,
    TARGET,
    assert_equal_scans,
    clean_images,
    masked_net,
    plain_success,
    planted_net,
    planted_trigger,
    scanned,
    short_rungs,
)
from small_nets import images

from badnet_defense.errors import CannotJudgeError
from badnet_defense.nets import describe, predict_labels
from badnet_defense.nets.input_range import InputRange
from badnet_defense.repairs.scan_unlearning import unlearn
from badnet_defense.scan import attack_success, halving, schedule
from badnet_defense.scan import scan as scanning
from badnet_defense.scan.attack_success import measure_attack_success
from badnet_defense.scan.outliers import joint_outliers, mad_outliers
from badnet_defense.scan.outliers import odds_outliers as wide_outliers
from badnet_defense.scan.registry import SCAN_PASSES
from badnet_defense.scan.schedule import Rung
from badnet_defense.scan.suitability import check_answers
from badnet_defense.scan.verdict import BACKDOORED, CLEAN, SUSPICIOUS, UNJUDGED, Verdict


@pytest.fixture(scope="module")
def model():
    return planted_net()


@pytest.fixture(scope="module")
def spec(model):
    return describe(model)


@pytest.fixture(scope="module")
def pictures():
    return images(200, shape=SHAPE).images


@pytest.fixture(scope="module")
def found(spec, pictures):
    return scanned(spec, pictures)


# What is found -----------------------------------------------------------------------------------


def test_the_planted_label_alone_is_flagged(found):
    assert found.flagged() == [TARGET]
    norms = found.passes[-1].norms
    assert norms[TARGET] < np.delete(norms, TARGET).min() / 4
    assert found.labels.tolist() == found.finished.tolist() == list(range(CLASSES))
    assert not found.stopped.any()


def test_its_trigger_works_on_other_pictures_too(found, model):
    mask, pattern, success = found.trigger(TARGET)
    fresh = images(120, shape=SHAPE, seed=9).images
    assert plain_success(model, fresh, mask, pattern, TARGET) > 0.9 and success > 0.9
    row, column = np.unravel_index(mask[..., 0].argmax(), SHAPE[:2])
    near = mask[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    assert near.sum() > 0.8 * mask.sum()  # a spot, as it was planted


def test_figures_are_those_of_the_masks(found, model, pictures):
    smooth = found.passes[-1]
    assert smooth.masks.shape == (CLASSES, *SHAPE[:2], 1)
    assert smooth.patterns.shape == (CLASSES, *SHAPE)
    for triggers in (smooth.masks, smooth.patterns):
        assert triggers.dtype == np.float32 and triggers.min() >= 0 and triggers.max() <= 1
    np.testing.assert_allclose(smooth.norms, smooth.masks.sum(axis=(1, 2, 3)), rtol=1e-5)
    for label in (0, TARGET):
        mask, pattern, success = found.trigger(label)
        plain = plain_success(model, pictures, mask, pattern, label)
        assert success == pytest.approx(plain, abs=0.011)  # a picture more or less may be on edge
    plain = mad_outliers(smooth.norms)
    np.testing.assert_array_equal(smooth.mad.index, plain.index)


def test_net_without_a_backdoor_has_no_flagged_label(pictures):
    assert scanned(describe(planted_net(target=None)), pictures).flagged() == []


def test_same_seed_same_scan(spec, pictures, found):
    assert_equal_scans(scanned(spec, pictures), found)
    other = scanned(spec, pictures, seed=1)
    assert (other.passes[-1].masks != found.passes[-1].masks).any()
    assert other.flagged() == [TARGET]


def test_net_for_another_range_has_the_same_triggers(pictures, found):
    """A factor of 256 between the ranges changes no bit of what is computed."""
    raw = describe(planted_net(span=256.0), InputRange(0, 256))
    assert_equal_scans(scanned(raw, pictures), found)


def test_chosen_labels_are_judged_by_others_scanned_beside_them(spec, pictures, found):
    """Alone, a single label has nothing to stand out from."""
    chosen = scanned(spec, pictures, labels=[8, TARGET, 2])
    assert chosen.asked.tolist() == [8, TARGET, 2]
    assert chosen.labels.tolist() == [8, TARGET, 2, 0, 1, 3, 4, 5, 6, 9]
    norms = chosen.passes[-1].norms
    assert norms.argmin() == 1 and chosen.trigger(TARGET).attack_success > 0.9
    np.testing.assert_allclose(norms[1], found.passes[-1].norms[TARGET], rtol=0.1)
    assert chosen.verdict() == Verdict(BACKDOORED, None, (TARGET,))
    alone = scanned(spec, pictures, labels=[TARGET])
    assert alone.flagged() == [TARGET] and len(alone.labels) == CLASSES


def test_a_reference_that_stands_out_is_no_verdict_on_the_labels_asked_for(spec, pictures):
    verdict = scanned(spec, pictures, labels=[8, 2]).verdict()
    assert (verdict.verdict, verdict.labels) == (SUSPICIOUS, (TARGET,))
    assert f"label {TARGET}, which was scanned as a reference, does" in verdict.reason


def test_so_many_others_are_drawn_by_the_seed():
    few = schedule.with_others([900, 3], 1283, seed=0)
    assert (
        few[:2].tolist() == [900, 3]
        and len(set(few.tolist())) == len(few) == schedule.MIN_LABELS_SCANNED
    )
    assert (few == schedule.with_others([900, 3], 1283, seed=0)).all()
    assert set(few[2:].tolist()) != set(schedule.with_others([900, 3], 1283, seed=1)[2:].tolist())
    many = list(range(40, 90))
    assert schedule.with_others(many, 1283, seed=0).tolist() == many
    assert schedule.with_others([1], 3, seed=0).tolist() == [1, 0, 2]
    assert schedule.with_others(None, 4, seed=0).tolist() == [0, 1, 2, 3]


# What cannot be judged ---------------------------------------------------------------------------


def verdict_on(found, **changes):
    """The verdict on `found` with arrays changed, in the scan or in both passes."""
    own = {name: array for name, array in changes.items() if hasattr(found, name)}
    in_passes = {name: array for name, array in changes.items() if name not in own}
    passes = tuple(replace(one, **in_passes) for one in found.passes)
    return replace(found, passes=passes, **own).verdict()


def test_among_two_labels_none_stands_out(found):
    two = {name: getattr(found, name)[6:8] for name in ("labels", "stopped", "finished")}
    sharp = found.passes[0]
    two |= {name: getattr(sharp, name)[6:8] for name in ("norms", "masks", "attack_success")}
    verdict = verdict_on(found, asked=np.array([6, TARGET]), **two)
    assert verdict.verdict == UNJUDGED and verdict.labels == ()
    smallest = sharp.norms[TARGET]
    assert f"the smallest trigger has {smallest:.1f} of 144 pixels (label 7)" in verdict.reason


@pytest.mark.parametrize(("works", "judged"), [(10, True), (5, True), (4, False), (0, False)])
def test_where_most_triggers_do_not_work_none_stands_out(found, works, judged):
    """The target's works, and is by far the smallest; what the others' sizes are says nothing."""
    success = np.where(np.argsort(np.argsort(found.passes[-1].norms)) < works, 1.0, 0.3)
    verdict = verdict_on(found, attack_success=success)
    assert (verdict.verdict == BACKDOORED) == judged
    assert judged or f"only {works} of 10 labels have a trigger that works" in verdict.reason


def test_answers_that_are_no_numbers_are_no_verdict(found):
    norms = np.where(np.arange(CLASSES) == 2, np.nan, found.passes[-1].norms)
    verdict = verdict_on(found, norms=norms)
    assert verdict.verdict == UNJUDGED and "no numbers" in verdict.reason


def test_indices_are_sane_where_hardly_a_trigger_works():
    """Three of four labels have the whole picture as their norm: the deviation is 0."""
    looks = [wide_outliers([1024.0, 1024, 1024, norm], 1024) for norm in (9, 30)]
    joint = joint_outliers([look.index for look in looks], [np.array([0, 0.2, -0.1, 0.1])])
    assert 5 < joint.index.max() < 100 and np.isfinite(joint.index).all()


def test_a_scan_that_cannot_judge_unlearns_nothing(monkeypatch):
    short_rungs(monkeypatch)
    spec = describe(masked_net())
    with pytest.raises(
        CannotJudgeError, match=r"cannot be judged: inconclusive: only .* trigger that works"
    ):
        unlearn(spec, clean_images(60))
    with pytest.raises(CannotJudgeError, match="got 20 clean images"):
        unlearn(spec, clean_images(20))


@pytest.mark.parametrize(
    ("count", "shown", "message"),
    [
        (1, 1, "got 1 clean image; a scan needs at least 32 different ones"),
        (31, 31, "got 31 clean images; a scan"),
        (200, 1, "got 200 clean images, 1 of them different; a scan"),
        (200, 31, "got 200 clean images, 31 of them different"),
    ],
)
def test_too_few_or_too_alike_images(spec, pictures, count, shown, message, monkeypatch):
    monkeypatch.setattr(halving.SuccessiveHalving, "run_rung", None)  # it is said before the work
    with pytest.raises(CannotJudgeError, match=message):
        scanned(spec, pictures[np.arange(count) % shown])


def test_images_of_one_class(spec, pictures, model, monkeypatch):
    answers = predict_labels(model, pictures)
    one = np.bincount(answers).argmax()
    few = np.flatnonzero(answers != one)
    of_one = np.flatnonzero(answers == one)
    repeated = images(2000, shape=SHAPE, seed=4).images
    more = repeated[predict_labels(model, repeated) == one][:100]
    chosen = np.concatenate([more, pictures[few[:10]]])
    monkeypatch.setattr(halving.SuccessiveHalving, "run_rung", None)
    with pytest.raises(CannotJudgeError, match=f"of the clean images with class {one}"):
        scanned(spec, chosen)
    monkeypatch.undo()
    mixed = np.concatenate([more[: len(of_one)], pictures[few]])
    assert scanned(spec, mixed).flagged() == [TARGET]


def test_answers_on_clean_images_are_counted():
    check_answers(np.array([0, 1, 1, 1, 1]), 3)
    with pytest.raises(CannotJudgeError, match="80% of one") as error:
        check_answers(np.array([0, 1, 1, 1, 1, 1]), 3)
    assert "answers 83% of the clean images with class 1" in str(error.value)
    with pytest.raises(CannotJudgeError, match=r"for 50% of the clean images .* no numbers"):
        check_answers(np.array([0, -1]), 3)


@pytest.mark.parametrize("patience", [1000, 10])
def test_how_many_labels_go_at_once_plays_no_part(spec, pictures, monkeypatch, patience):
    """Also where a batch ends before its steps do, since the patience with all of it is over."""
    inversion = replace(SETTINGS, patience=patience)
    together = scanned(spec, pictures, inversion=inversion)
    monkeypatch.setattr(halving, "LABELS_AT_ONCE", 1)
    alone = scanned(spec, pictures, inversion=inversion)
    for one, other in zip(alone.passes, together.passes, strict=True):
        np.testing.assert_allclose(one.norms, other.norms, rtol=0.02)


# Labels that stop early --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def halved(spec, pictures):
    """(scan, references) of ten labels of which four go all the way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "MIN_SURVIVORS", 1)
        patch.setattr(schedule, "REFERENCES", 2)
        patch.setattr(schedule, "SUSPECTS", 0)
        references = schedule.references(np.arange(CLASSES), seed=0)
        return scanned(
            spec, pictures, rungs=(Rung(25, 8, 0.2, 0.1), Rung(40, 16, 1, 0.1))
        ), references


def test_large_triggers_stop_early(halved, found):
    stopping, references = halved
    smooth = stopping.passes[-1]
    assert stopping.labels[smooth.norms.argmin()] == TARGET
    assert stopping.flagged() == []  # two references can't tell what is usual
    finished = set(stopping.finished.tolist())
    assert len(finished) == 4 and {TARGET} | references <= finished
    np.testing.assert_array_equal(stopping.stopped, [one not in finished for one in range(CLASSES)])
    assert len(smooth.masks) == len(smooth.patterns) == len(smooth.attack_success) == 4
    for place, label in enumerate(stopping.finished):
        assert smooth.norms[label] == pytest.approx(smooth.masks[place].sum(), rel=1e-5)


def test_norms_of_stopped_labels_are_lower_bounds(halved, found):
    """Those that they have once they go all the way are larger, or hardly smaller."""
    stopping, _ = halved
    smooth = stopping.passes[-1]
    early = smooth.norms[stopping.stopped]
    assert (early > 0).all() and np.isfinite(early).all()
    assert (early < 1.15 * found.passes[-1].norms[stopping.stopped]).all()
    assert smooth.norms[TARGET] < early.min()


def test_a_stopped_label_is_never_flagged(found):
    stopped = np.arange(CLASSES) == TARGET
    assert replace(found, stopped=stopped).flagged() == []


# Judging -----------------------------------------------------------------------------------------


def test_a_mask_that_misses_the_goal_grows_until_it_meets_it(model, spec, pictures, monkeypatch):
    monkeypatch.setattr(attack_success, "OPACITY_FACTORS", (1.0, 1.2, 1.5, 2.0, 3.0))
    mask, pattern = planted_trigger(0.4)
    successes = {
        factor: plain_success(model, pictures, np.minimum(mask * factor, 1), pattern, TARGET)
        for factor in attack_success.OPACITY_FACTORS
    }
    goal = (successes[1.2] + successes[1.5]) / 2
    assert successes[1.0] <= successes[1.2] < goal < successes[1.5]
    masks, found = measure_attack_success(
        spec, [TARGET], mask[None], pattern[None], pictures, goal=goal
    )
    np.testing.assert_allclose(masks[0], mask * 1.5, rtol=1e-6)
    assert found[0] == pytest.approx(successes[1.5], abs=0.011)
    # Met at once, a mask stays as it is.
    masks, _ = measure_attack_success(
        spec, [TARGET], 2 * mask[None], pattern[None], pictures, goal=goal
    )
    np.testing.assert_array_equal(masks[0], 2 * mask)


def test_a_mask_that_cannot_meet_the_goal_is_as_faint_as_its_best_success_allows(
    spec, pictures, monkeypatch
):
    """Half opaque it has all the success that it will ever have."""
    scripted = {1.0: 0.3, 2.0: 0.796, 4.0: 0.80, 8.0: 0.7}
    monkeypatch.setattr(attack_success, "OPACITY_FACTORS", tuple(scripted))

    def answers(shown):
        if shown.dtype == np.uint8:  # the clean pictures
            return np.zeros(len(shown), int)
        factor = (shown[0, 0, 0, 0] - pictures[0, 0, 0, 0]) / (255 - pictures[0, 0, 0, 0]) * 8
        return np.where(np.arange(len(shown)) < scripted[round(float(factor))] * len(shown), 1, 0)

    scripted_net = SimpleNamespace(predict=answers)
    mask, pattern = np.full((*SHAPE[:2], 1), 0.125), np.ones(SHAPE)
    masks, success = measure_attack_success(
        scripted_net, [1], mask[None], pattern[None], pictures, goal=0.99
    )
    np.testing.assert_allclose(masks[0], 0.25)
    assert success[0] == pytest.approx(0.795, abs=0.01)


def test_a_mask_grows_to_opaque_and_no_further(pictures, monkeypatch):
    """Its norm counts pixels, and a pixel is covered once."""
    monkeypatch.setattr(attack_success, "OPACITY_FACTORS", (1.0, 2.0))
    rates = iter([0, 0.5, 1])  # of the clean images, then of both masks

    def answers(shown):
        return np.where(np.arange(len(shown)) < next(rates) * len(shown), 1, 0)

    scripted_net = SimpleNamespace(predict=answers)
    mask = np.linspace(0, 1, 144, dtype=np.float32).reshape(1, *SHAPE[:2], 1)
    masks, success = measure_attack_success(scripted_net, [1], mask, np.ones((1, *SHAPE)), pictures)
    np.testing.assert_array_equal(masks, np.where(mask < 0.5, 2 * mask, 1))
    assert success == [1]


def test_a_hopeless_mask_stays_as_it_is(spec, pictures):
    mask, pattern = np.zeros((*SHAPE[:2], 1), np.float32), np.ones(SHAPE, np.float32)
    masks, success = measure_attack_success(spec, [2], mask[None], pattern[None], pictures)
    np.testing.assert_array_equal(masks[0], mask)
    assert success[0] == 0


def test_pictures_that_have_the_label_anyway_do_not_judge(spec, pictures):
    """An invisible trigger has no success, however many pictures are of its class."""
    answers = spec.predict(pictures)
    most = np.bincount(answers).argmax()
    chosen = pictures[np.argsort(answers != most, kind="stable")][:40]
    assert np.mean(spec.predict(chosen) == most) > 0.5
    mask, pattern = np.zeros((*SHAPE[:2], 1), np.float32), np.ones(SHAPE, np.float32)
    _, success = measure_attack_success(spec, [most], mask[None], pattern[None], chosen)
    assert success[0] == 0


def test_where_no_trigger_works_the_norm_is_the_whole_picture(spec, pictures, monkeypatch):
    monkeypatch.setattr(scanning, "MIN_ATTACK_SUCCESS", 1.01)
    found = scanned(spec, pictures)
    assert found.passes[-1].norms.tolist() == [144] * CLASSES and found.flagged() == []


def test_a_label_is_shown_at_its_clearest(found):
    """Label 3 has indices of 2 and 6, label 2 of 5 and 3."""

    def indices(one, values, **changes):
        index = np.zeros(CLASSES)
        index[list(values)] = list(values.values())
        return replace(one, outliers=replace(one.outliers, index=index), **changes)

    sharp = indices(found.passes[0], {3: 2, 2: 5}, masks=found.passes[1].masks / 2)
    smooth = indices(found.passes[1], {3: 6, 2: 3})
    both = replace(found, passes=(sharp, smooth))
    assert both.clearest(2) is sharp and both.clearest(3) is smooth
    np.testing.assert_array_equal(both.trigger(3).mask, smooth.masks[3])
    np.testing.assert_array_equal(both.trigger(2).mask, smooth.masks[2] / 2)


def judged(found, sharp, smooth, index, limit=4.0, **changes):
    """`found` with other log-odds in both passes and other joint indices; the rest is usual."""

    def outliers(values):
        usual = np.linspace(-0.2, 0.2, CLASSES)
        usual[list(values)] = list(values.values())
        return wide_outliers(np.exp(usual + 9), 1e12)

    indices = np.linspace(1, -1, CLASSES)
    indices[list(index)] = list(index.values())
    flagged = tuple(int(one) for one in np.argsort(-indices) if indices[one] > limit)
    joint = replace(found.joint, index=indices, limit=limit, flagged=flagged)
    passes = tuple(
        replace(one, outliers=outliers(values))
        for one, values in zip(found.passes, (sharp, smooth), strict=True)
    )
    return replace(found, passes=passes, joint=joint, **changes)


@pytest.mark.parametrize(
    ("sharp", "smooth", "index", "flagged"),
    [
        # Both passes' index, and smaller than the next by more than 0.25 in one of them.
        ({7: -0.5}, {7: -0.1}, {7: 4.1}, {7: "index"}),
        ({7: -0.3}, {7: -0.5}, {7: 4.1}, {7: "index"}),
        # Each is compared with those that are no outliers.
        ({7: -0.55, 2: -0.5}, {}, {7: 5, 2: 6}, {2: "index", 7: "index"}),
        # One pass alone, though the index is below the limit.
        ({7: -1.2}, {}, {7: 2}, {7: "sharp pass"}),
        ({7: -1.2, 2: -1.1}, {}, {7: 2}, {7: "sharp pass", 2: "sharp pass"}),
        ({}, {7: -1.8}, {7: 2}, {7: "smooth pass"}),
        ({7: -1}, {}, {7: 2}, {7: "sharp pass"}),
        ({}, {7: -1.3}, {7: 2}, {}),  # smooth triggers of clean nets differ as much
    ],
)
def test_three_ways_to_be_flagged(found, sharp, smooth, index, flagged):
    scan = judged(found, sharp, smooth, index)
    assert scan.verdict() == Verdict(BACKDOORED, None, tuple(flagged)) or not flagged
    assert scan.flagged() == list(flagged)
    assert [scan.flagged_by(label) for label in flagged] == list(flagged.values())
    assert scan.flagged_by(4) is None
    stopped = np.isin(np.arange(CLASSES), list(flagged))
    assert judged(found, sharp, smooth, index, stopped=stopped).flagged() == []


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({7: 3.5, 2: 2.0}, "label 7 is first by far, just below the limit (index 3.50, limit 4.00; "
                           "next is label 2 with 2.00, 1.50 below)"),
        # From 0.85 of the limit on, where the next has less than 0.6 of that.
        ({7: 3.42, 2: 2.04}, "label 7 is first by far"),
        ({7: 3.5, 2: 2.12}, None),  # not by far
        ({7: 3.38, 2: 1.0}, None),  # not just below
        ({7: 4.5, 2: 1.0}, "label 7 stands out, though its trigger is hardly smaller than the next "
                           "(index 4.50, limit 4.00;"),
    ],
)  # fmt: skip
def test_suspicious(found, index, message):
    verdict = judged(found, {}, {}, index).verdict()
    assert verdict.verdict == (SUSPICIOUS if message else CLEAN)
    assert message is None or (verdict.labels == (7,) and message in verdict.reason)


def test_the_sharp_pass_comes_before_the_smooth_one(found):
    sharp, smooth = found.passes
    assert (sharp.name, smooth.name) == ("sharp", "smooth") and sharp.shift == smooth.shift == 0.1
    sums = sharp.outliers.index + smooth.outliers.index
    middle = np.median(sums)
    expected = (sums - middle) / max(1.4826 * np.median(np.abs(sums - middle)), 1)
    np.testing.assert_allclose(found.joint.index, expected)
    assert (sharp.masks != smooth.masks).any()


def scores_of_weights(monkeypatch, scores):
    """The net's weights have these scores."""
    method = replace(SCAN_PASSES["weights"], run=lambda net, config: np.asarray(scores))
    monkeypatch.setitem(SCAN_PASSES._methods, "weights", method)


def test_weights_count_beside_the_masks_and_keep_a_label_from_stopping(
    spec, pictures, found, monkeypatch
):
    """2, 9 and 0 are suspects; the planted net's own end has no weights to read."""
    assert found.weights == {}
    sums = np.array([0.1, 0.3, 9, 0.2, -0.1, 7, -0.2, 0.15, 0.05, 8])
    scores_of_weights(monkeypatch, sums)
    monkeypatch.setattr(schedule, "REFERENCES", 1)
    monkeypatch.setattr(schedule, "MIN_SURVIVORS", 2)
    monkeypatch.setattr(schedule, "SUSPECTS", 3)
    monkeypatch.setattr(schedule, "MIN_LABELS_SCANNED", 0)
    rungs = (Rung(10, 8, 0.1, shift=0.1), *[Rung(10, 8, shift=0.1)] * 2)
    labels = np.array([0, 1, 2, 3, 4, 6, 7, 9])
    with_weights = scanned(spec, pictures, labels=labels, rungs=rungs)
    np.testing.assert_allclose(
        with_weights.weights["weights"], (sums - 0.175)[labels] / (1.4826 * 0.2), rtol=1e-6
    )
    assert {2, 9} < set(with_weights.finished.tolist()) and len(with_weights.finished) == 5


def test_the_larger_index_decides(spec, pictures, found, monkeypatch):
    sums = np.arange(CLASSES, 0, -1.0)
    scores_of_weights(monkeypatch, sums)
    both = scanned(spec, pictures)
    indices = [one.outliers.index for one in found.passes]
    expected = joint_outliers(indices, list(both.weights.values()))
    np.testing.assert_array_equal(both.joint.index, expected.index)
    assert both.joint.limit > found.joint.limit
