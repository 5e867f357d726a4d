"""The tables of README and docs are those that docs/make_tables.py makes of docs/data."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MEASURED = [ROOT / "docs" / "results.md", *sorted((ROOT / "docs" / "experiments").glob("*.md"))]


@pytest.fixture(scope="module")
def make_tables():
    place = ROOT / "docs" / "make_tables.py"
    spec = importlib.util.spec_from_file_location("make_tables", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path):
    """A copy of README and docs for the script to work on."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "README.md", tmp_path)
    return tmp_path


def check(make_tables, root, *arguments):
    """The script's exit code on that copy."""
    return make_tables.main([*arguments, "--root", str(root)])


def test_tables_are_those_of_the_data(make_tables):
    assert make_tables.main(["--check"]) == 0


def test_changed_page_fails_the_check_and_is_mended(make_tables, copy, capsys):
    page = copy / "docs" / "experiments" / "demo.md"
    before = page.read_text("utf-8")
    assert before.count("97.9") == 1
    page.write_text(before.replace("97.9", "99.9"), "utf-8")
    assert check(make_tables, copy, "--check") == 1
    assert "demo.md" in capsys.readouterr().out
    assert check(make_tables, copy) == 0
    assert page.read_text("utf-8") == before
    assert check(make_tables, copy, "--check") == 0


def test_changed_figure_fails_the_check_of_each_page_that_shows_it(make_tables, copy, capsys):
    data = copy / "docs" / "data" / "demo.json"
    data.write_text(data.read_text("utf-8").replace("97.9", "90.9"), "utf-8")
    assert check(make_tables, copy, "--check") == 1
    shown = capsys.readouterr().out
    assert "README.md" in shown
    assert "demo.md" in shown


def test_runs_become_one_row_by_hand(make_tables, tmp_path):
    lines = [
        "net,repair,detector,seeds,bad_accuracy,repaired_accuracy,guard_accuracy,false_positive_rate,"
        "repaired_success,guard_success,guard_der",
        "a,anp,hard,0 1,0.9,0.8,0.7,0.02,0.1,0.05,0.9",
        "a,anp,hard,2,0.9,0.5,0.4,0.05,0.3,0.01,0.8",
        "a,anp,soft,2,0.9,0.5,0.6,0.01,0.3,0.0,0.95",
    ]
    (tmp_path / "runs.csv").write_text("\n".join(lines), "utf-8")
    (row,) = make_tables.leaderboard({"models": ["a"]}, tmp_path).rows
    hard = [60.0, 3.0, 5.0, 0.8]  # (2 * 0.7 + 0.4) / 3, (2 * 0.02 + 0.05) / 3, the worst seeds
    soft = [60.0, 1.0, 0.0, 0.95]
    assert row == pytest.approx(["a", "anp", 3, 90.0, 70.0, 30.0, *hard, *soft])


def test_cells_by_hand(make_tables):
    assert make_tables.cell_text(0.05, ".1f") == "0.1"
    assert make_tables.cell_text(None, ".1f") == ""
    assert make_tables.cell_text([1, 0.5, 2], "interval .2f") == "1.00 [0.50, 2.00]"
    assert make_tables.cell_text([100.0, 66.7], ".1f") == "100.0, 66.7"
    table = make_tables.Table(
        {"a": {"merge": True}, "b": {}, "c": {"merge": True}},
        [["x", 1, 2], ["x", 2, 2], ["y", 3, 2]],
    )
    assert make_tables.table_lines(table) == [
        "| a | b | c |",
        "|---|---:|---:|",
        "| x | 1 | 2 |",
        "|  | 2 |  |",
        "| y | 3 | 2 |",
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "data").glob("*.json")), ids=str)
def test_data_says_how_and_when_it_was_measured(path):
    content = json.loads(path.read_text("utf-8"))
    assert content["command"]
    assert re.fullmatch(r"[0-9a-f]{7,40}", content["commit"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", content["date"])
    if "from" not in content:
        assert all(len(row) == len(content["columns"]) for row in content["rows"])


def test_no_table_of_figures_is_typed_by_hand(make_tables):
    for page in MEASURED:
        typed = make_tables.BLOCK.sub("", page.read_text("utf-8"))
        lines = [line for line in typed.splitlines() if line.startswith("|")]
        assert page.name == "README.md" or not lines, page


def test_every_data_file_is_shown(make_tables):
    shown = {name for page in make_tables.pages() for name in names_in(make_tables, page)}
    used = {
        source["name"]
        for name in shown & set(make_tables.SUMMARIES)
        for source in make_tables.SUMMARIES[name](make_tables.DATA).sources
    }
    assert {path.stem for path in make_tables.DATA.glob("*.json")} <= shown | used


def names_in(make_tables, page):
    return [name for _, name, _ in make_tables.BLOCK.findall(page.read_text("utf-8"))]


def test_scan_counts_by_hand(make_tables):
    rows = [
        {"model": "a", "target": 1, "detected": "yes"},
        {"model": "a", "target": 5, "detected": "no"},
        {"model": "b", "target": 0, "detected": "no"},
        {"model": "c", "target": "none", "detected": "no"},
        {"model": "d", "target": "none", "detected": "yes"},
    ]
    assert make_tables.scan_row("these", rows) == ["these", "1 of 2", "1 of 3", "1 of 2"]
    zoo = [
        {"targets": "1 5", "verdict": "backdoored", "classes named": "5 7"},
        {"targets": 3, "verdict": "clean", "classes named": None},
        {"targets": None, "verdict": "clean", "classes named": None},
    ]
    assert make_tables.zoo_counts(zoo) == ["1 of 2", "1 of 3", "0 of 1"]


def test_extremes_count_every_trigger(make_tables):
    rows = [{"detected": [100.0, 33.3]}, {"detected": 50.0}, {"detected": None}]
    assert make_tables.extreme(rows, "detected", min) == 33.3
    assert make_tables.extreme(rows, "detected", max) == 100.0
