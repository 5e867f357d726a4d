"""What reaches the terminal: text that no file's name can spoil, and that no output can break."""

import csv
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from badnet_defense.cli import classify, console
from badnet_defense.errors import InputError, one_line, printable
from badnet_defense.io.files import exclusive
from badnet_defense.report.comparison import write_csv

ROOT = Path(__file__).resolve().parents[2]
FIGURES = {"schema": 1, "bad": {"clean_test": {"accuracy": 0.5}}}


def result_of(folder, net):
    """The path of a result whose net has a certain name."""
    path = folder / "r.json"
    path.write_text(json.dumps({**FIGURES, "net": {"file": net}}))
    return str(path)


def run(*command, code=None, **settings):
    """A finished process: `python -m badnet_defense COMMAND`, or `code` that imports it."""
    given = ["-c", code] if code else ["-m", "badnet_defense", *command]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings.pop("env", {})}
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **settings}
    return subprocess.run(
        [sys.executable, *given], env=environment, text=True, timeout=60, check=False, **settings
    )


def test_printable_by_hand():
    assert printable("a\x1b[2J\tb\n") == "a\\x1b[2J\\x09b\\x0a"
    assert printable("a\tb\n\r", besides="\n\t") == "a\tb\n\\x0d"
    assert printable("é \u202e\udcff") == "é \\x202e\\xdcff"
    assert one_line(" a\n\x07  b ") == "a \\x07 b"


def test_names_of_files_move_no_cursor_and_make_no_lines(tmp_path):
    done = run("summary", result_of(tmp_path, "x/good\x1b[2J\rbad\nworse.h5"))
    assert done.returncode == 0 and done.stderr == ""
    assert "good\\x1b[2J bad worse" in done.stdout and not set(done.stdout) & set("\x1b\r")
    assert sum("good" in line or "worse" in line for line in done.stdout.splitlines()) == 1


def test_answers_keep_to_their_lines(monkeypatch, capsys, tmp_path):
    from badnet_defense.workflows import classify as answering

    monkeypatch.setattr(answering, "classify_images", lambda inputs, *_, **__: [0] * len(inputs))
    given = type("Given", (), {"inputs": ["a.png\t7\nb.png", "c  d.png"], "net": "x"})()
    given.input_range, given.alone, given.home = None, False, tmp_path
    classify.print_classes(given, "x")
    assert capsys.readouterr().out == "a.png\\x097\\x0ab.png\t0\nc  d.png\t0\n"


def test_messages_and_crashes_are_printable():
    code = (
        "import logging\nfrom badnet_defense.cli import console\n"
        "def main():\n"
        "    logging.getLogger('badnet_defense.x').warning('%s: told', 'a\\x1b[1m\\nb')\n"
        "    raise ValueError('c\\x1b[1m')\n"
        "console.run(main)"
    )
    done = run(code=code)
    first, *_, last = done.stderr.splitlines()
    assert done.returncode == 1 and first == "a\\x1b[1m b: told"
    assert last == "ValueError: c\\x1b[1m" and "\x1b" not in done.stderr


def test_wrong_usage_is_printable():
    done = run("summary", "--\x1b[2J", "x.json")
    assert done.returncode == 2 and "unrecognized arguments: --\\x1b[2J" in done.stderr


def test_an_output_of_few_characters_ends_no_work(tmp_path):
    path = result_of(tmp_path, "nét.h5")
    done = run("summary", path, env={"PYTHONIOENCODING": "ascii:strict"})
    assert done.returncode == 0 and "n\\xe9t" in done.stdout and done.stderr == ""
    done = run("summary", str(tmp_path / "é.json"), env={"PYTHONIOENCODING": "ascii:strict"})
    assert done.returncode == 2 and "\\xe9.json: no such file" in done.stderr


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path):
    """As `head` does: nothing is said, and what was asked for is still written."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    joined = tmp_path / "joined.json"
    done = run("summary", result_of(tmp_path, "net.h5"), "--json", str(joined), stdout=write_end)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, "") and joined.exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device here")
def test_an_output_that_is_full_is_one_sentence(tmp_path):
    with open("/dev/full", "w") as full:
        done = run("summary", result_of(tmp_path, "net.h5"), stdout=full)
    assert done.returncode == 2
    assert done.stderr == "standard output: No space left on device; run the command again.\n"


def test_a_run_leaves_this_process_as_it_was(capsys):
    before = sys.stdout, os.environ.get("PYTHONSAFEPATH")

    def main():
        assert os.environ["PYTHONSAFEPATH"] == "1"
        print("a\x1b")
        return 3

    with pytest.raises(SystemExit) as stop:
        console.run(main)
    assert stop.value.code == 3 and capsys.readouterr().out == "a\\x1b\n"
    assert (sys.stdout, os.environ.get("PYTHONSAFEPATH")) == before
    assert logging.getLogger("badnet_defense").level == logging.INFO


# Spreadsheets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("\t=1+1", "'\t=1+1"),
        ("\r=1+1", "'\r=1+1"),
        ("\n@x", "'\n@x"),
        ("  +1", "'  +1"),
        ("\uff1dcmd", "'\uff1dcmd"),
        (["=1", "b"], "'=1 b"),
        (["a", "=1"], "a =1"),
        ([-0.5, 0.25], "-0.5 0.25"),
        (-0.5, "-0.5"),
        (None, ""),
        ("net;=1+1", "net;=1+1"),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula(value, cell, tmp_path):
    write_csv(tmp_path / "a.csv", [{"net": value, "last": 1}])
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row == {"net": cell, "last": "1"}
    if isinstance(value, str):  # in quotes, or a spreadsheet that parts at ";" sees two cells
        assert f'"{cell}"' in (tmp_path / "a.csv").read_bytes().decode()


# What comes before the work ----------------------------------------------------------------------


def test_a_second_run_is_refused_before_anything_is_read(tmp_path):
    from badnet_defense.workflows.detect import guard_file
    from badnet_defense.workflows.repair import repair_file
    from badnet_defense.workflows.scan import scan_file

    runs = {
        "g.keras": lambda out: guard_file("no.h5", "no.h5", out=out, name="soft"),
        "no": lambda out: repair_file("no.h5", "no.h5", out=out.parent),
        "scan": lambda out: scan_file("no.h5", "no.h5", out=out),
    }
    for name, start in runs.items():
        with exclusive(tmp_path / name), pytest.raises(InputError, match="another run is writing"):
            start(tmp_path / name)
        with pytest.raises(InputError, match=r"no\.h5: no such file"):
            start(tmp_path / name)
