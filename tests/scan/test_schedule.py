"""How steps are shared out between labels, against cases worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from badnet_defense.scan import halving, schedule
from badnet_defense.scan.scan import lower_bounds, rungs_of
from badnet_defense.scan.schedule import (
    BUDGETS,
    Rung,
    num_survivors,
    pixels,
    plan,
    references,
    sizes,
    survivors,
    suspects,
)


@pytest.fixture(autouse=True)
def three_references(monkeypatch):
    monkeypatch.setattr(schedule, "REFERENCES", 3)
    monkeypatch.setattr(schedule, "SUSPECTS", 0)
    monkeypatch.setattr(schedule, "MIN_SURVIVORS", 2)


# plan --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", list(schedule.BUDGETS))
def test_many_labels_get_the_budget_as_it_stands(budget):
    assert plan(BUDGETS[budget], 1000) == BUDGETS[budget]


@pytest.mark.parametrize("budget", list(schedule.BUDGETS))
@pytest.mark.parametrize("labels", [1, 4])
def test_few_labels_all_go_all_the_way(budget, labels):
    rungs = plan(BUDGETS[budget], labels)
    assert [rung.keep for rung in rungs] == [1] * len(rungs)
    assert sizes(rungs, labels) == [labels] * len(rungs)
    work = [(rung.steps, rung.images) for rung in schedule.BUDGETS[budget]]
    assert [(rung.steps, rung.images) for rung in rungs] == work


def test_a_full_budget_stops_no_label():
    assert all(rung.keep == 1 for rung in schedule.BUDGETS["full"])
    assert any(rung.keep < 1 for rung in schedule.BUDGETS["fast"])


# kept and sizes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "labels", "expected"),
    [
        (0.25, 40, 13),  # 10 and the 3 references
        (0.1, 40, 7),
        (1.0, 40, 40),
        (0.9, 5, 5),  # 4 and 3 would be more than there are
        (0.5, 2, 2),
    ],
)
def test_kept(share, labels, expected):
    assert num_survivors(Rung(1, 1, share), labels) == expected


def test_sizes():
    """40 -> 10 + 3 = 13 -> 5.2, so 5 + 3 = 8."""
    rungs = (Rung(9, 1, 0.25), Rung(9, 1, 0.4), Rung(9, 1))
    assert sizes(rungs, 40) == [40, 13, 8]


# references --------------------------------------------------------------------------------------


def test_references_are_drawn_from_the_labels():
    labels = np.arange(100, 150)
    drawn = references(labels, seed=4)
    assert len(drawn) == 3 and drawn <= set(labels.tolist())
    assert drawn == references(labels, seed=4)
    assert len({frozenset(references(labels, seed=seed)) for seed in range(20)}) > 10
    assert references(np.array([8, 9]), seed=0) == {8, 9}


# survivors ---------------------------------------------------------------------------------------

LABELS = np.arange(10, 20)
#                 10  11  12  13 14 15  16  17  18  19
NORMS = np.array([50, 99, 12, 30, 7, 60, 5, 44, 29, 98])


def test_the_smallest_survive_and_references_always_do():
    """Of ten a share of 0.3 and the three references: 16, 14, 12 beside 11, 15 and 19."""
    left = survivors(LABELS, NORMS, Rung(1, 1, 0.3), {11, 15, 19})
    assert left.tolist() == [11, 12, 14, 15, 16, 19]


def test_a_small_reference_takes_no_one_s_place_and_no_two():
    """16 is among the smallest by itself; the other three places go to 14, 12 and 18."""
    left = survivors(LABELS, NORMS, Rung(1, 1, 0.3), {11, 16, 19})
    assert left.tolist() == [11, 12, 14, 16, 18, 19]


def test_order_of_the_labels_plays_no_part():
    order = np.random.default_rng(0).permutation(10)
    left = survivors(LABELS[order], NORMS[order], Rung(1, 1, 0.3), {11, 15, 19})
    assert left.tolist() == [11, 12, 14, 15, 16, 19]


def test_of_equal_norms_the_first_survive():
    left = survivors(LABELS, np.full(10, 4.0), Rung(1, 1, 0.2), {10, 18, 19})
    assert left.tolist() == [10, 11, 12, 18, 19]


def test_all_survive_a_rung_that_keeps_all():
    assert survivors(LABELS, NORMS, Rung(1, 1), {11}).tolist() == LABELS.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_rung_after_rung_as_many_survive_as_planned(seed):
    rng = np.random.default_rng(seed)
    rungs = (Rung(1, 1, 0.25), Rung(1, 1, 0.4), Rung(1, 1, 0.7), Rung(1, 1))
    left = np.arange(60)
    always = references(left, seed=seed)
    norms = rng.uniform(1, 90, 60)
    smallest = int(np.argmin(norms))
    for rung, size in zip(rungs, sizes(rungs, 60), strict=True):
        assert len(left) == size and always <= set(left.tolist()) and smallest in left
        left = survivors(left, norms[left], rung, always)


AREA = 1000


# lower bounds ------------------------------------------------------------------------------------


def test_lower_bounds_by_hand():
    """References 1 and 3 fell to 12/20 and 9/40 after rung 0, to 12/15 and 9/36 after rung 1."""
    history = [{0: 10, 1: 20, 2: 30, 3: 40, 4: 50, 5: 60}, {0: 8, 1: 15, 2: 28, 3: 36}]
    final = {0: 4, 1: 12, 3: 9}
    bounds = lower_bounds(np.arange(6), history, final, {1, 3}, AREA)
    expected = [4, 12, 28 * 9 / 36, 9, 50 * 9 / 40, 60 * 9 / 40]
    np.testing.assert_allclose(bounds, expected)


def test_lower_bounds_follow_the_labels_order():
    history = [{8: 40.0, 5: 10.0, 2: 20.0}]
    bounds = lower_bounds(np.array([8, 2, 5]), history, {5: 5.0}, {5}, AREA)
    np.testing.assert_allclose(bounds, [20, 10, 5])


def test_where_no_reference_was_left_all_finished_labels_show_the_factor():
    history = [{0: 10.0, 1: 20.0, 2: 30.0}]
    bounds = lower_bounds(np.arange(3), history, {0: 8.0, 1: 10.0}, {99}, AREA)
    np.testing.assert_allclose(bounds, [8, 10, 15])


def test_a_reference_that_is_a_target_says_nothing_about_the_others():
    """Ten references keep nine tenths of 19 to 28 pixels, one falls from 20 to 1: 40 x 0.9."""
    early = {label: 19.0 + label for label in range(10)} | {10: 20.0, 11: 40.0}
    final = {label: 0.9 * early[label] for label in range(10)} | {10: 1.0}
    bounds = lower_bounds(np.arange(12), [early], final, set(range(11)), AREA)
    assert bounds[11] == pytest.approx(36) and bounds[10] == 1


def test_pixels_are_a_share_of_the_sides():
    assert pixels(0.125, (48, 32)) == (6, 4)
    assert pixels(0.0, (32, 32)) == (0, 0)


def every_rung(budget):
    """The rungs of a budget where no label stops early."""
    return rungs_of(budget, 43)


@pytest.mark.parametrize("budget", list(BUDGETS))
def test_the_last_two_rungs_look_alike_but_for_shifts_and_smoothness(budget):
    """So that all labels that go all the way are seen in both ways."""
    rungs = every_rung(budget)
    assert [rung.shift for rung in rungs] == [0.06] * (len(rungs) - 1) + [0.125]
    assert [rung.blur for rung in rungs] == [0] * (len(rungs) - 1) + [0.05]
    near, far = rungs[-2:]
    assert near.keep == 1 and (near.steps, near.images) == (far.steps, far.images)


@pytest.mark.parametrize("budget", list(BUDGETS))
def test_the_smooth_pass_shifts_by_an_eighth_of_the_sides_and_the_sharp_one_by_six_hundredths(
    budget,
):
    """Of 55 by 47 pixels 6 and 5, and 3 and 2; two pixels of blur to each side."""
    rng, pictures = np.random.default_rng(0), np.zeros((4, 55, 47, 1), np.uint8)
    furthest, rungs = [], every_rung(budget)
    for rung in rungs:
        offsets = np.concatenate([rung.batch(pictures, rng)[1] for _ in range(100)])
        assert (offsets.max(axis=0) == -offsets.min(axis=0)).all()
        furthest.append(tuple(offsets.max(axis=0).tolist()))
    assert furthest == [(3, 2)] * (len(furthest) - 1) + [(6, 5)]
    assert pixels(rungs[-1].blur, (55, 47)) == (2, 2)


@pytest.mark.parametrize(("there", "groups"), [(100, (4, 8)), (30, (4, 7)), (3, (3, 1))])
def test_pictures_are_shared_out_among_places(there, groups):
    pictures = np.arange(there, dtype=np.uint8)[:, None, None, None] * np.ones((1, 16, 8, 1), int)
    shown, offsets = Rung(1, 32, shift=0.25).batch(pictures, np.random.default_rng(0))
    assert shown.shape == (*groups, 16, 8, 1) and shown.dtype == np.float32
    drawn = np.rint(shown[..., 0, 0, 0] * 255).ravel()
    assert len(set(drawn)) == len(drawn) and (drawn < there).all()
    assert offsets.shape == (groups[0], 2) and offsets.dtype == np.int32


def test_all_offsets_within_reach_are_drawn():
    rng, pictures = np.random.default_rng(0), np.zeros((4, 16, 8, 1), np.uint8)
    offsets = np.concatenate([Rung(1, 4, shift=0.25).batch(pictures, rng)[1] for _ in range(500)])
    places = {(down, right) for down in range(-4, 5) for right in range(-2, 3)}
    assert {tuple(one) for one in offsets.tolist()} == places


def test_suspects_are_the_labels_that_the_weights_speak_against(monkeypatch):
    monkeypatch.setattr(schedule, "SUSPECTS", 2)
    assert suspects(np.array([10, 11, 12, 13]), np.array([0.5, 3, -4, 1])) == {11, 13}
    assert suspects(LABELS, None) == set()
    assert num_survivors(Rung(1, 1, 0.25), 40) == 15  # 10, 3 references, 2 suspects


def test_labels_at_once_by_what_a_gradient_holds(monkeypatch):
    """A net of 3,000 values a picture holds 12 kB for each on a processor."""
    rungs = [schedule.Rung(1, 8), schedule.Rung(1, 64)]
    monkeypatch.setattr(halving, "call_shapes", lambda _: [(10, 10, 20), (1000,)])
    spec = SimpleNamespace(classes=100)
    assert halving.batch_sizes(spec, rungs) == [32, 4]  # 256 pictures
    monkeypatch.setattr(halving, "MAX_BYTES", 12_000 * 100)
    assert halving.batch_sizes(spec, rungs) == [12, 1]
    monkeypatch.setattr(halving, "MAX_BYTES", 0)
    assert halving.batch_sizes(spec, rungs) == [1, 1]
    assert halving.batch_sizes(spec, rungs, memory=2 * 3 * 12_000 * 640) == [80, 10]


def test_units_are_as_equal_as_can_be_and_fours_where_there_are_several():
    sizes = {
        (10, 32): [10],
        (32, 32): [32],
        (43, 32): [11, 11, 11, 10],
        (43, 8): [6, 6, 6, 5, 5, 5, 5, 5],
        (3, 1): [1, 1, 1],
        (5, 2): [2, 1, 1, 1],
    }
    for (labels, most), expected in sizes.items():
        parts = halving.split_labels(np.arange(labels), most)
        assert [len(part) for part in parts] == expected
        np.testing.assert_array_equal(np.concatenate(parts), np.arange(labels))
