"""The command `badnet-defense`, equal to `python3 -m badnet_defense`, and the scripts' way in."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

from badnet_defense.cli import console
from badnet_defense.cli.options import AddArguments, Parser, Run

COMMANDS = {
    "check": "is this model backdoored? scan, repair, guard, evaluate, one page",
    "scan": "find a model's target labels by inverting a trigger for each",
    "repair": "remove a backdoor, by fine-pruning or another method",
    "guard": "build a guard with a target false-positive rate",
    "classify": "the class of images, or the accuracy on a data set",
    "evaluate": "measure a defence on clean and poisoned images",
    "detect": "ask a run-time detector about images",
    "compare": "compare repairs and detectors: a table, CSV and one page",
    "audit": "scan many models: a verdict for each, a table, CSV and one page",
    "attack": "poison a data set and train a BadNet on it",
    "show": "what is in a data set, and what a model answers",
    "demo": "make the demo challenge",
    "summary": "join result files into one table",
}
"""{command: what it does}; each is a module of this package."""
RENAMED = {"strip": "detect"}
"""{old name of a command: its module}; help does not show them."""
EXAMPLES = {
    "eval.py": "image.png --net sunglasses",
    "eval_defense.py": "data/poisoned.h5 models/net.h5 --detector soft",
    "eval_defense_nodata.py": "models/net.h5",
    "fine_prune.py": "models/net.h5 --method ft-sam",
}
"""{script: arguments of an example}."""
DESCRIPTION = (
    "Scan, repair and guard image classifiers that somebody else trained and that may carry a "
    "backdoor."
)


def main(given: list[str] | None = None) -> int | None:
    """Runs one command.

    Args:
        given: its name and arguments; default: those of the process.

    Returns:
        The exit code, None for 0.
    """
    given = sys.argv[1:] if given is None else given
    parser = Parser(DESCRIPTION, prog=program(), example=f"{program()} COMMAND --help")
    parser.add_argument("--version", action="version", version=_version())
    parser.add_argument("command", choices=[*COMMANDS, *RENAMED], metavar="COMMAND", help="below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.add_table("commands", COMMANDS.items())
    chosen = parser.parse_args(given)
    command = import_module(f"badnet_defense.cli.{RENAMED.get(chosen.command, chosen.command)}")
    own = command_parser(command, chosen.command)
    own.set_defaults(command=chosen.command, home=Path())
    arguments = own.parse_args(chosen.arguments)
    return command.run(arguments)


def command_parser(command: ModuleType, name: str) -> Parser:
    """The parser of a command's module.

    Args:
        command: has `DESCRIPTION`, `EXAMPLE` (without the program's name), `add_arguments`, `run`.
        name: of the command.
    """
    start = f"{program()} {name}"
    parser = Parser(command.DESCRIPTION, prog=start, example=f"{start} {command.EXAMPLE}")
    command.add_arguments(parser)
    return parser


def program() -> str:
    """How this program is started."""
    as_module = Path(sys.argv[0]).name in ("__main__.py", "-m")
    return "python3 -m badnet_defense" if as_module else "badnet-defense"


def _version() -> str:
    try:
        return version("badnet-defense")
    except PackageNotFoundError:
        return "not installed: this is a checkout"


def start() -> None:
    """Runs a command and ends the process; `badnet-defense` of an installed package."""
    console.run(main)


def run_script(file: str, description: str | None, add_arguments: AddArguments, run: Run) -> None:
    """Runs a script that stands for a command and ends the process.

    Args:
        file: of the script; its folder is where `data`, `models` and `fine_pruned_models` are.
        description: what it does.
        add_arguments: adds its arguments to a parser.
        run: does the work.
    """
    script = Path(file).resolve()

    def work() -> int | None:
        example = f"python3 {script.name} {EXAMPLES.get(script.name, '')}"
        parser = Parser(description or "", prog=script.name, example=example.rstrip())
        parser.set_defaults(home=script.parent)
        add_arguments(parser)
        return run(parser.parse_args())

    console.run(work)
