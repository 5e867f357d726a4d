"""What would fail at the end is found at the beginning: every command, each of its outputs."""

import os
import runpy
import subprocess
from pathlib import Path

import pytest
from scan_calls import called

from badnet_defense.cli import console, main
from badnet_defense.errors import InputError
from badnet_defense.io.files import check_writable

ROOT = Path(__file__).resolve().parents[2]


def told(arguments):
    """The one line that a command refuses with; `DIR` of its arguments is a file, not a folder."""
    script = ROOT / arguments[0]
    if script.suffix == ".py":
        own = called(
            lambda: runpy.run_path(str(script), run_name="__main__"), script.name, arguments[1:]
        )
    else:
        own = called(lambda: console.run(main.main), "badnet_defense", arguments)
    code, out, err = own
    assert code == 2 and out == "" and "Traceback" not in err, (code, out, err)
    return err.strip().splitlines()[-1]


COMMANDS = [
    ["fine_prune.py", "net.h5", "--clean", "clean.h5", "--json", "DIR/a.json"],
    ["fine_prune.py", "net.h5", "--clean", "clean.h5", "--out", "DIR/out"],
    ["eval_defense.py", "poisoned.h5", "net.h5", "--json", "DIR/a.json"],
    ["eval_defense.py", "p.h5", "net.h5", "--detector", "soft", "--plots", "DIR/a"],
    ["eval_defense_nodata.py", "net.h5", "--json", "DIR/a.json"],
    ["guard", "net.h5", "--clean", "clean.h5", "--out", "DIR/guard.keras"],
    ["strip", "net.h5", "image.png", "--clean", "clean.h5", "--out", "DIR/a.png"],
    ["scan", "net.h5", "--clean", "clean.h5", "--out", "DIR/scan"],
    ["scan", "net.h5", "--clean", "clean.h5", "--json", "DIR/a.json"],
    ["compare", "--nets", "net.h5", "--out", "DIR/compare"],
    ["audit", "nets", "--clean", "clean.h5", "--out", "DIR/audit"],
    ["demo", "--out", "DIR/data"],
    ["demo", "--train", "--out", "data", "--models", "DIR/models"],
    ["summary", "result.json", "--json", "DIR/a.json"],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda one: f"{one[0]} {one[-2]}")
def test_an_output_that_cannot_be_written_is_told_first(arguments, tmp_path, monkeypatch):
    """Nothing else is there: whatever is looked at before would be what is missing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DIR").write_text("a file where a folder is needed")
    if "--detector" in arguments:
        arguments = [*arguments, "--clean-validation", "clean.h5"]
    assert "cannot be written, since DIR is no folder" in told(arguments)
    assert [one.name for one in tmp_path.iterdir()] == ["DIR"]


@pytest.mark.parametrize("option", ["--json", "--out"])
def test_an_input_is_never_overwritten(option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("net.json", "clean.h5"):
        (tmp_path / name).write_text("input")
    result = "net.json" if option == "--json" else "net"
    line = told(["scan", "net.json", "--clean", "clean.h5", option, result])
    assert line == "net.json: this would overwrite an input; name another file."


def test_places_that_can_be_written_are_not_made_yet(tmp_path):
    check_writable(tmp_path / "new" / "folder" / "a.json", None, tmp_path / "b.json")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="this is a folder"):
        check_writable(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="nothing may be written into"):
        check_writable(tmp_path / "a.json")


@pytest.mark.parametrize("script", ["fine_prune_all.sh", "runall.sh"])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_of_a_shell_script_draws_nothing(script, option, tmp_path):
    (tmp_path / script).write_bytes((ROOT / script).read_bytes())
    fake = tmp_path / "python3"
    fake.write_text('#!/bin/sh\necho "called: $@"\n')
    fake.chmod(0o755)
    done = subprocess.run(
        ["bash", script, option],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    first, *_, last = done.stdout.splitlines()
    assert first == f"usage: {script} [option ..]"
    assert last.startswith("called: ") and last.endswith("--help") and "demo" not in last
