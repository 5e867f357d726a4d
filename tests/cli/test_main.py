"""One command with all sub-commands: their help, their names, and where repairs are looked for."""

import argparse
import re
import sys
from importlib import import_module

import pytest

from badnet_defense.cli import main, options
from badnet_defense.detectors import DETECTORS
from badnet_defense.errors import InputError

VERDICTS = ("check", "scan", "audit")


@pytest.fixture
def help_of(monkeypatch, capsys):
    """A function that gives a command's help on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["badnet-defense"])

    def text(*given):
        with pytest.raises(SystemExit) as stop:
            main.main([*given, "--help"])
        assert stop.value.code == 0
        return capsys.readouterr().out

    return text


def test_the_help_names_every_command(help_of):
    text = help_of()
    for name, summary in main.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", text, re.MULTILINE), name
    assert not any(old in text for old in main.RENAMED)


@pytest.mark.parametrize("name", main.COMMANDS)
def test_the_help_of_a_command(help_of, name):
    text = help_of(name)
    assert text.startswith(f"usage: badnet-defense {name} [options]")
    assert max(map(len, text.splitlines())) <= 80
    assert f"\nexample:\n  badnet-defense {name} " in text
    assert "None" not in text and "SUPPRESS" not in text
    assert ("exit codes:" in text) == (name in VERDICTS)
    assert "false-alarms" not in text


@pytest.mark.parametrize("name", main.COMMANDS)
def test_the_example_of_a_command_is_one(name):
    """It parses; nothing is run."""
    module = import_module(f"badnet_defense.cli.{name}")
    parser = main.command_parser(module, name)
    parser.parse_args(module.EXAMPLE.split())


def test_every_option_says_what_it_is():
    for name in main.COMMANDS:
        parser = main.command_parser(import_module(f"badnet_defense.cli.{name}"), name)
        assert all(action.help for action in parser._actions), name


def test_defaults_are_shown_once(help_of):
    text = " ".join(help_of("repair").split())
    assert "(default: fine-pruning)" in text and "(default of fine-pruning: 0.04)" in text
    assert "random seed (default: 0)" in text and "(default: 0,1)" in text
    text = " ".join(help_of("compare").split())
    assert "(default: hard soft sentinet)" in text


def test_tables_hold_every_method_and_detector():
    assert tuple(options.DETECTORS) == DETECTORS.names()


def test_a_renamed_option_and_command_keep_their_old_names():
    """A visible option and its old name set the same thing, and the default is the new one's."""
    parser = options.Parser("")
    options.add_false_positive_rate(parser, default=0.01)
    assert parser.parse_args([]).false_positive_rate == 0.01
    for name in ("--false-positive-rate", "--false-alarms"):
        assert parser.parse_args([name, "0.2"]).false_positive_rate == 0.2
    assert main.RENAMED["strip"] == "detect"


@pytest.mark.parametrize("text", ["0", "1", "-0.1", "2", "x", "nan"])
def test_rates_that_are_none(text):
    with pytest.raises(argparse.ArgumentTypeError, match="between 0 and 1"):
        options.rate(text)


@pytest.mark.parametrize("text", ["2", "2TB", "0MB", "-1GB", "1.5GB"])
def test_sizes_that_are_none(text):
    with pytest.raises(argparse.ArgumentTypeError, match="such as 500MB or 2GB"):
        options.size(text)
    assert options.size("500MB") == 500 * 2**20 and options.size(" 2gb") == 2**31


def test_an_unknown_command_is_wrong_usage(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["badnet-defense"])
    with pytest.raises(SystemExit) as stop:
        main.main(["no-such"])
    assert stop.value.code == 2 and "'no-such'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["scan", "n.h5", "--clean", "c.h5", "--pseudo-labels"], "--pseudo-labels requires"),
        (["audit", "nets", "--detector", "soft"], "--detector requires --repair"),
        (["evaluate", "n.h5", "--plots", "a"], "--plots requires --detector"),
        (["evaluate", "n.h5", "--trigger-labels", "t.npy"], "--trigger-labels requires --poisoned"),
        (["guard", "n.h5", "--clean", "c.h5", "--out", "g.h5"], "ends in .keras"),
        (["demo", "--hard"], "--hard requires --train"),
    ],
)
def test_options_that_need_others(given, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=re.escape(words)):
        main.main(given)
