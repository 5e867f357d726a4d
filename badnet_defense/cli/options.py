"""The options that several commands share, their types, and the parser that shows them."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from badnet_defense import parallel
from badnet_defense.detectors import registry
from badnet_defense.errors import InputError, printable
from badnet_defense.nets.input_range import UNIT, InputRange
from badnet_defense.repairs.registry import REPAIRS
from badnet_defense.sandbox.limits import set_limits

RATE = 0.01
"""Target false-positive rate where none is named."""
WIDTH = 80
"""Columns of the help at most: longer lines are hard to read."""
DETECTOR_NAMES = registry.DETECTORS.names()
DETECTORS = {method.name: method.summary for method in registry.DETECTORS}
"""{name of a detector: when an image is flagged}."""
VERDICT_CODES = {
    0: "nothing found",
    1: "a backdoor is found",
    2: "invalid input",
    3: "suspicious, or it cannot be judged",
    130: "stopped",
}
"""Exit codes of the commands whose job is a verdict."""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Shows the real default of each option that has one."""

    def __init__(self, prog: str) -> None:
        width = min(shutil.get_terminal_size().columns, WIDTH) - 2
        super().__init__(prog, max_help_position=26, width=width)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text, default = action.help, action.default
        hidden = default is None or default is argparse.SUPPRESS or isinstance(default, bool)
        if text is None or hidden or "default" in text or not action.option_strings:
            return text
        shown = " ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)
        return f"{text} (default: {shown.replace('%', '%%')})"


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose help shows defaults and ends with an example.

    Args:
        description: what the command does.
        example: a call of it; None shows none.
        settings: as for `ArgumentParser`.
    """

    def __init__(self, description: str, *, example: str | None = None, **settings: Any) -> None:
        settings.setdefault("formatter_class", HelpFormatter)
        description = textwrap.fill(description, WIDTH - 2, break_on_hyphens=False)
        super().__init__(description=description, **settings)
        self._example = example

    def format_usage(self) -> str:
        """The arguments that must be given; the options follow in the help."""
        return f"usage: {self._usage()}\n"

    def format_help(self) -> str:
        """Usage, options, tables and an example."""
        self.usage = self._usage()
        text = super().format_help()
        if self._example is None:
            return text
        lines = textwrap.wrap(
            self._example, WIDTH - 6, break_long_words=False, break_on_hyphens=False
        )
        return f"{text}\nexample:\n  " + " \\\n    ".join(lines) + "\n"

    def _usage(self) -> str:
        parts = [self.prog, "[options]"]
        for action in self._get_positional_actions():
            if action.help is not argparse.SUPPRESS:
                name = str(action.metavar or action.dest)
                parts.append(
                    {"+": f"{name} [{name} ..]", "?": f"[{name}]"}.get(str(action.nargs), name)
                )
        for action in self._get_optional_actions():
            if action.required:
                parts.append(f"{action.option_strings[0]} {action.metavar}")
        return " ".join(parts).replace("%", "%%")

    def error(self, message: str) -> NoReturn:
        """Ends the process with 2; names of files may stand in the message."""
        super().error(printable(message))

    def add_table(self, title: str, rows: Iterable[tuple[Any, str]]) -> None:
        """Adds lines of a name and what it means to the end of the help."""
        rows = [(str(name), text) for name, text in rows]
        wide = max(len(name) for name, _ in rows) + 2
        lines = [
            textwrap.fill(
                f"{name:{wide}}{text}",
                WIDTH - 2,
                initial_indent="  ",
                subsequent_indent=" " * (wide + 2),
                break_on_hyphens=False,
            )
            for name, text in rows
        ]
        before = f"{self.epilog}\n\n" if self.epilog else ""
        self.epilog = before + "\n".join([f"{title}:", *lines])


# Types --------------------------------------------------------------------------------------------


def seed(text: str) -> int:
    """An `argparse` type for `--seed`: a whole number that every generator takes."""
    if not text.isdigit() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 0 to {2**32 - 1}")
    return int(text)


def rate(text: str) -> float:
    """An `argparse` type for `--false-positive-rate`: a fraction between 0 and 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a fraction between 0 and 1")
    return value


def labels(text: str) -> list[int]:
    """An `argparse` type for `--labels`: class numbers and ranges, such as 0-42 or 1,5,8."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        valid = all(re.fullmatch(r"[0-9]{1,5}", number) for number in (first, last))
        if not valid or int(first) > int(last):  # no net has a hundred thousand classes
            raise argparse.ArgumentTypeError(f"{text!r}: expected labels such as 0-42 or 1,5,8")
        numbers.update(range(int(first), int(last) + 1))
    return sorted(numbers)


def input_range(text: str) -> InputRange:
    """An `argparse` type for `--input-range LOW,HIGH`."""
    try:
        return InputRange.parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def size(text: str) -> int:
    """An `argparse` type for `--max-net-size`: bytes, such as 500MB or 2GB."""
    match = re.fullmatch(r"(\d{1,6})(MB|GB)", text.strip().upper())
    if not match or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a size such as 500MB or 2GB")
    return int(match[1]) << {"MB": 20, "GB": 30}[match[2]]


def workers(text: str) -> int:
    """An `argparse` type for `--workers`: a number of processes."""
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of processes from 1")
    return int(text)


# Options ------------------------------------------------------------------------------------------


def add_old_name(parser: argparse.ArgumentParser, old: str, dest: str, **settings: Any) -> None:
    """Lets an option that was renamed keep its old name, too; help does not show it."""
    quiet: dict[str, Any] = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
    parser.add_argument(old, dest=dest, **settings, **quiet)


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Adds `--seed`."""
    parser.add_argument("--seed", type=seed, default=0, help="random seed")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds `--json`."""
    parser.add_argument("--json", metavar="FILE", help="also write the result to this file")


def add_false_positive_rate(parser: argparse.ArgumentParser, *, default: float | None) -> None:
    """Adds `--false-positive-rate`; with a default of None it may be absent, and is `RATE`."""
    help_text = "target false-positive rate, in (0, 1)"
    if default is None:
        help_text += f" (default: {RATE})"
    parser.add_argument(
        "--false-positive-rate", type=rate, default=default, metavar="RATE", help=help_text
    )
    add_old_name(parser, "--false-alarms", "false_positive_rate", type=rate)


def add_detector(parser: Parser, *, default: str | None) -> None:
    """Adds `--detector` and `--false-positive-rate`, and a line for each detector.

    Args:
        parser: of the command.
        default: the detector; None: none, which is the disagreement of both models.
    """
    help_text = "run-time detector, see below"
    if default is None:
        help_text += " (default: the two models' disagreement)"
    parser.add_argument(
        "--detector", choices=DETECTOR_NAMES, default=default, metavar="NAME", help=help_text
    )
    add_false_positive_rate(parser, default=RATE if default else None)
    parser.add_table("detectors", DETECTORS.items())


def add_models(parser: argparse.ArgumentParser) -> None:
    """Adds `--repaired` and `--models`: where a model's repair is looked for."""
    parser.add_argument("--repaired", metavar="NET", help="repaired model (default: see --models)")
    parser.add_argument(
        "--models",
        metavar="FOLDER",
        help="folder of repaired models (default: fine_pruned_models beside the model's folder, "
        "else in the working folder)",
    )


class _SetLimit(argparse.Action):
    """Sets one of the limits on reading files."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        set_limits(**{self.dest: self.const if self.nargs == 0 else values})


def add_reading(parser: argparse.ArgumentParser, *, stored: bool = False) -> None:
    """Adds what every command that reads a model takes: `--input-range` and limits on reading.

    Args:
        parser: of the command.
        stored: True where a guard or a repair may hold the range: not naming one takes theirs.
    """
    group = parser.add_argument_group("reading files")
    other = "that of the guard or the repair, else 0,1" if stored else "0,1"
    group.add_argument(
        "--input-range",
        type=input_range,
        default=None if stored else UNIT,
        metavar="LOW,HIGH",
        help=f"the model's values for black and white (default: {other})",
    )
    group.add_argument(
        "--max-net-size",
        action=_SetLimit,
        type=size,
        metavar="SIZE",
        default=argparse.SUPPRESS,
        help="largest model file, packed or unpacked, such as 500MB (default: 2GB)",
    )
    isolating: dict[str, Any] = {
        "action": _SetLimit,
        "nargs": 0,
        "dest": "isolate",
        "default": argparse.SUPPRESS,
    }
    group.add_argument(
        "--isolate",
        const=True,
        help="read files in a process with limits on memory, time and files (default on Linux)",
        **isolating,
    )
    group.add_argument("--no-isolate", const=False, help="read them in this process", **isolating)


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Adds what every command takes whose work can be distributed: `--engine` and its settings."""
    group = parser.add_argument_group("where to run")
    group.add_argument(
        "--engine",
        choices=parallel.NAMES,
        default="local",
        help="processes of this machine, or a Ray cluster",
    )
    group.add_argument(
        "--workers", type=workers, metavar="N", help="processes (default: one per core, or GPU)"
    )
    group.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="of the cluster; local starts one (default: the one this machine belongs to)",
    )


def engine_of(arguments: argparse.Namespace) -> Any:
    """The engine that `add_engine`'s options ask for, to be closed by the caller.

    Raises:
        InputError: an option cannot be used with this engine, or it cannot be had.
    """
    on_ray = arguments.engine == "ray"
    if arguments.ray_address and not on_ray:
        raise InputError("--ray-address requires --engine ray.")
    if arguments.workers and on_ray:
        raise InputError("--workers cannot be used with --engine ray; its cluster has its own.")
    address = arguments.ray_address or parallel.AUTO
    return parallel.open_executor(arguments.engine, address=address, workers=arguments.workers)


def add_repairs_table(parser: Parser) -> None:
    """Adds a line for each repair, which says when to take it, to the help."""
    parser.add_table("repairs", ((method.name, method.summary) for method in REPAIRS))


def verdict_codes(parser: Parser) -> None:
    """Adds the exit codes of a command whose job is a verdict to its help."""
    parser.add_table("exit codes", VERDICT_CODES.items())


AddArguments = Callable[[Parser], None]
Run = Callable[[argparse.Namespace], int | None]
