"""`badnet-defense check`: from a stranger's model to a verdict, a repair, a guard and one page."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from badnet_defense.cli.audit import config_of, refuse_jax
from badnet_defense.cli.console import load_tensorflow
from badnet_defense.cli.options import (
    DETECTOR_NAMES,
    DETECTORS,
    Parser,
    add_engine,
    add_old_name,
    add_reading,
    add_repairs_table,
    add_seed,
    engine_of,
    verdict_codes,
)
from badnet_defense.cli.scan import verdict_code
from badnet_defense.errors import InputError, printable
from badnet_defense.io.files import check_writable
from badnet_defense.repairs.registry import DEFAULT, REPAIRS

if TYPE_CHECKING:
    from badnet_defense.benchmarking.check import CheckInputs

DESCRIPTION = (
    "Check a model that somebody else trained: scan it and, where a backdoor is found, repair it, "
    "build its guard and measure both on clean images that were held out. Prints the verdict and "
    "writes one page, one JSON, the repaired model and the guard. Rerun the command to resume."
)
EXAMPLE = "models/net.h5 --clean data/clean_validation_data.h5"


def add_arguments(parser: Parser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="the suspect model: .h5 or .keras")
    add(
        "--clean",
        required=True,
        metavar="DATA",
        help="clean images: .h5, or a folder with a sub-folder per class; labels are not needed",
    )
    add(
        "--poisoned",
        metavar="DATA",
        help="poisoned images, labelled with the attacker's class, to measure the defence with",
    )
    add("--trigger-labels", metavar="FILE", help="True/False per poisoned image")
    add("--budget", choices=("fast", "full"), default="fast", help="the scan's steps per label")
    add(
        "--repair",
        choices=REPAIRS.names(),
        default=DEFAULT,
        metavar="NAME",
        help="repair method, see below",
    )
    add_old_name(parser, "--method", "repair", choices=REPAIRS.names())
    add(
        "--detector",
        choices=DETECTOR_NAMES,
        default="soft",
        metavar="NAME",
        help="detector of the guard, see below",
    )
    add_seed(parser)
    add("--out", metavar="FOLDER", help="output folder (default: results/check/<stem>)")
    add_reading(parser)
    add_engine(parser)
    add_repairs_table(parser)
    parser.add_table("detectors", DETECTORS.items())
    verdict_codes(parser)


def run(arguments: argparse.Namespace) -> int:
    """Checks the model, prints the verdict and writes the page."""
    if arguments.trigger_labels and not arguments.poisoned:
        raise InputError("--trigger-labels requires --poisoned.")
    out = Path(arguments.out or f"results/check/{Path(arguments.model).stem}")
    check_writable(out / "check.html", inputs=(arguments.model, arguments.clean))
    load_tensorflow()
    from badnet_defense.benchmarking.check import CheckInputs, check
    from badnet_defense.report.check import check_sentences, write_check_page

    refuse_jax("check")
    poisoned, trigger_labels = arguments.poisoned, arguments.trigger_labels
    given = CheckInputs(
        model=Path(arguments.model),
        clean=Path(arguments.clean),
        poisoned=None if poisoned is None else Path(poisoned),
        trigger_labels=None if trigger_labels is None else Path(trigger_labels),
        out=out,
    )
    with engine_of(arguments) as engine:
        result = check(given, config=config_of(arguments), executor=engine)
    print(*map(printable, check_sentences(result)), sep="\n")
    write_check_page(
        out / "check.html",
        result,
        command=shlex.join(["badnet-defense", *sys.argv[1:]]),
        steps=steps(given, result, arguments),
        pictures=given.pictures(result),
    )
    print(printable(f"written: {out / 'check.html'}"))
    return verdict_code([result["verdict"]])


def steps(given: CheckInputs, result: dict[str, Any], arguments: argparse.Namespace) -> list[str]:
    """The commands that do the same one by one."""
    range_ = str(arguments.input_range)
    common = ["--seed", str(arguments.seed)]
    common += [] if range_ == "0,1" else ["--input-range", range_]
    model, clean = str(given.model), result["scan"].get("data", {}).get("clean", {}).get("file")
    lines = [["scan", model, "--clean", clean or str(given.clean), "--budget", arguments.budget]]
    if "repair" in result:
        data = given.out / "data"
        validation, folder = str(data / "clean_validation.h5"), str(given.repaired.parent)
        repair = ["repair", model, "--clean", validation, "--method", arguments.repair]
        repair += [] if result["parts"]["labelled"] else ["--pseudo-labels"]
        repaired = ["--repaired", f"{given.repaired}.h5", "--detector", arguments.detector]
        guard = ["guard", model, "--clean", validation, *repaired]
        evaluate = ["evaluate", model, "--clean-validation", validation, *repaired]
        if result["parts"]["held_out"]:
            evaluate += ["--clean-test", str(data / "clean_test.h5")]
        for name in ("poisoned", "trigger_labels"):
            if getattr(arguments, name):
                evaluate += [f"--{name.replace('_', '-')}", getattr(arguments, name)]
        stem = given.repaired.with_name(f"{given.model.stem}.{arguments.detector}.keras")
        lines += [[*repair, "--out", folder], [*guard, "--out", str(stem)], evaluate]
    return [shlex.join(["badnet-defense", *line, *common]) for line in lines]
