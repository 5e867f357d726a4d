"""Tables show the figures that results hold, in per cent; the plot is a picture that shows them."""

import numpy as np
import pytest
from PIL import Image

from badnet_defense.errors import InputError
from badnet_defense.report import defense_table, plot_pruning_curve, summary_table
from badnet_defense.report.plots import plot_pruning_curve as plot

PRUNING = {
    "layer": "conv_3",
    "channels": 4,
    "removed": 2,
    "max_accuracy_drop": 0.04,
    "curve": [0.98, 0.97, 0.95, 0.5, 0.01],
}


def result():
    return {
        "net": {"file": "models/sunglasses_bd_net.h5"},
        "data": {"poisoned": {"file": "data/Multi-trigger Multi-target/lipstick.h5"}},
        "bad": {
            "clean_validation": {"accuracy": 0.99},
            "clean_test": {"accuracy": 0.9786, "accuracy_interval": [0.9749, 0.98194]},
            "poisoned": {"attack_success": 1.0},
        },
        "pruned": {
            "clean_test": {"accuracy": 0.95},
            "poisoned": {"attack_success": 0.9, "der": 0.53},
        },
        "repaired": {
            "clean_test": {"accuracy": 0.96},
            "poisoned": {"attack_success": 0.125, "der": 0.93},
        },
        "guard": {
            "clean_test": {"accuracy": 0.955, "flagged": 0.02, "flagged_interval": [0.01, 0.03]},
            "poisoned": {"attack_success": 0.011, "flagged": 0.987, "der": 0.983},
            "truly_triggered": {"flagged": 0.9999},
            "truly_clean": {"flagged": 0.0},
        },
    }


def cells(table):
    """The body of a "github" table as lists of cells."""
    lines = table.splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_defense_table_shows_every_figure_in_its_place():
    assert cells(defense_table(result(), style="github")) == [
        ["clean validation", "accuracy", "99.0", "", "", ""],
        ["clean test", "accuracy", "97.9 [97.5, 98.2]", "95.0", "96.0", "95.5"],
        ["", "FPR", "", "", "", "2.0 [1.0, 3.0]"],
        ["poisoned", "attack success", "100.0", "90.0", "12.5", "1.1"],
        ["", "detected", "", "", "", "98.7"],
        ["", "DER", "", "53.0", "93.0", "98.3"],
        ["truly triggered", "detected", "", "", "", "100.0"],
        ["truly clean", "FPR", "", "", "", "0.0"],
    ]
    assert "97.9 [97.5, 98.2]" in defense_table(result())


def test_defense_table_leaves_out_what_is_absent():
    short = {"bad": {"clean_test": {"accuracy": 0.5}}, "guard": {"clean_test": {"flagged": 0.25}}}
    table = defense_table(short, style="github")
    assert cells(table) == [
        ["clean test", "accuracy", "50.0", ""],
        ["", "FPR", "", "25.0"],
    ]
    assert "pruned" not in table


def test_summary_table_has_one_line_for_each_result():
    no_data = {"net": {"file": "other.h5"}, "bad": {"clean_validation": {"accuracy": 0.25}}}
    table = summary_table([result(), no_data], style="github")
    figures = [
        "97.9",
        "100.0",
        "95.0",
        "90.0",
        "96.0",
        "12.5",
        "95.5",
        "2.0",
        "98.7",
        "1.1",
        "98.3",
    ]
    assert cells(table) == [
        ["sunglasses_bd_net", "lipstick", *figures],
        ["other", "", "25.0", *[""] * 10],
    ]
    header = [cell.strip() for cell in table.splitlines()[0].strip("|").split("|")]
    assert header[2:] == [
        "suspect ACC",
        "suspect ASR",
        "pruned ACC",
        "pruned ASR",
        "repaired ACC",
        "repaired ASR",
        "guard ACC",
        "FPR",
        "detected",
        "ASR through guard",
        "DER",
    ]
    assert "sunglasses_bd_net" in summary_table([result()])


def test_pruning_curve_is_a_picture_that_differs_with_what_it_shows(tmp_path):
    plot_pruning_curve(tmp_path / "new" / "a.png", PRUNING, net="a $x^$ b\udcff")
    plot_pruning_curve(tmp_path / "b.png", {**PRUNING, "removed": 1}, net="sunglasses_bd_net")
    plot_pruning_curve(tmp_path / "c.png", {**PRUNING, "max_accuracy_drop": None})
    pictures = []
    for path in (tmp_path / "new" / "a.png", tmp_path / "b.png", tmp_path / "c.png"):
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert image.size == (1200, 750)
            pictures.append(np.asarray(image.convert("RGB")))
    assert pictures[0].std() > 5
    assert (pictures[0] != pictures[1]).any()
    assert (pictures[0] != pictures[2]).any()


def test_pruning_curve_draws_the_figures(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k))
    )
    plot(tmp_path / "a.png", PRUNING, net="my net")
    axes = drawn[0].axes[0]
    heights = [np.asarray(line.get_ydata(), float).tolist() for line in axes.lines]
    assert [98, 97, 95, 50, 1] in heights
    assert [94, 94] in heights  # the allowed drop
    assert any(
        list(line.get_xdata()) == [2] and list(line.get_ydata()) == [95] for line in axes.lines
    )
    texts = [text.get_text() for text in axes.texts]
    assert "allowed drop: 4 points, to 94.0 %" in texts
    assert "kept: 2 of 4 channels pruned,\n95.0 % accuracy" in texts
    assert axes.get_title(loc="left") == "my net: pruning the dormant channels of conv_3"


def test_a_plot_cannot_take_the_place_of_a_folder(tmp_path):
    with pytest.raises(InputError) as caught:
        plot_pruning_curve(tmp_path, PRUNING)
    assert str(caught.value).startswith(f"{tmp_path}: this is a folder, expected the name")
