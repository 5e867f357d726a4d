"""One run of the grid: its figures, its pictures, and a refusal."""

import numpy as np
import pytest
from small_grid import ASKED, compared
from small_nets import images

from badnet_defense.benchmarking import run_figures
from badnet_defense.nets.input_range import InputRange


def test_wrong_range_is_refused_without_a_repair(case, tmp_path):
    asked = {**ASKED, "detectors": ["sentinet"], "input_range": InputRange(0, 255)}
    runs, failed = compared([case], out=tmp_path / "out", **asked)
    assert not runs and "give 0,1 as the input range" in failed[0][1]


def test_grey_pictures_are_shown(project):
    grey = images(3, shape=(12, 10, 1))
    answers = {"bad": {"clean_test": np.zeros(3)}, "guard": {"clean_test": np.zeros(3)}}
    (shown,) = run_figures.examples({"clean_test": grey}, answers)
    assert shown["title"] == "clean" and shown["png"]


def test_a_run_s_figures(case, tmp_path, quick):
    runs, _ = compared([case], out=tmp_path / "out", **ASKED)
    run = next(run for run in runs if run["detector"] == "hard")
    assert run["clean"]["pictures"] == 40
    assert run["clean"]["bad_accuracy"] == 1.0  # its own answers are the labels
    honest = run["clean"]["guard_accuracy"] + run["clean"]["false_positive_rate"]
    assert honest == pytest.approx(1.0)  # where the nets agree, the bad net is right here
    for figures in run["triggers"].values():
        assert figures["pictures"] == 30 and figures["target"] == 0
        assert figures["guard_success"] <= figures["bad_success"]
        worse, better = figures["guard_der_interval"]
        lost = run["clean"]["bad_accuracy"] - run["clean"]["guard_accuracy_interval"][0]
        won = max(0, figures["bad_success"] - figures["guard_success_interval"][1])
        assert (
            worse == pytest.approx((won - lost + 1) / 2) and worse <= figures["guard_der"] <= better
        )
    assert run["repair"] == "fine-tuning" and run["repair_seconds"] > 0
    titles = [one["title"] for one in run["examples"]]
    assert titles[:3] == ["clean", "lipstick", "again"]
    alone = next(run for run in runs if run["detector"] == "sentinet")
    assert set(alone["examples"][0]["answers"]) == {"bad", "guard"}
    assert "repaired_success" not in alone["triggers"]["lipstick"]


def test_many_pictures_are_drawn_from(case, tmp_path, quick, monkeypatch):
    monkeypatch.setattr(run_figures, "MAX_CLEAN", 25)
    monkeypatch.setattr(run_figures, "MAX_POISONED", 10)
    runs, _ = compared([case], out=tmp_path / "out", **ASKED)
    for run in runs:
        assert run["clean"]["pictures"] == 25
        assert all(figures["pictures"] == 10 for figures in run["triggers"].values())


def test_an_attack_with_many_targets_has_no_one_target():
    """Success goes by each image's own target: two of four here, whatever label is frequent."""
    targets = np.array([1, 1, 2, 3])
    answers = {"bad": np.array([1, 0, 2, 0]), "guard": np.array([5, 5, 2, 5])}
    labels = np.arange(4)
    clean = run_figures.clean_figures({name: labels for name in answers}, labels, 5)
    scores = (np.zeros(4), np.ones(4))
    found = run_figures.trigger_figures(answers, targets, clean, 5, scores, with_curve=False)
    assert (found["target"], found["targets"]) == (None, 3)
    assert (found["bad_success"], found["guard_success"]) == (0.5, 0.25)
    one = run_figures.trigger_figures(answers, np.full(4, 2), clean, 5, scores, with_curve=False)
    assert (one["target"], one["targets"]) == (2, 1)
