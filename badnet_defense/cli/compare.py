"""`badnet-defense compare`: compares repairs and detectors on several models."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from badnet_defense.cli.console import load_tensorflow
from badnet_defense.cli.options import (
    DETECTOR_NAMES,
    DETECTORS,
    RATE,
    Parser,
    add_engine,
    add_false_positive_rate,
    add_reading,
    add_repairs_table,
    engine_of,
    seed,
)
from badnet_defense.errors import InputError, printable
from badnet_defense.io.files import check_writable
from badnet_defense.repairs.registry import REPAIRS

NETS = ("sunglasses", "anonymous_1", "anonymous_2", "multi_trigger_multi_target")
DEFAULT_REPAIRS = ("fine-pruning", "fine-tuning", "magnitude-pruning")
DEFAULT_DETECTORS = ("hard", "soft", "sentinet")
DESCRIPTION = (
    "Compare repairs and detectors on several models: a table, CSV and one HTML page. Finished "
    "runs are reused; rerun the command to resume."
)
EXAMPLE = "--nets models/net.h5=data/poisoned.h5 --repairs ft-sam anp --detectors soft"


def add_arguments(parser: Parser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add(
        "--nets",
        nargs="+",
        metavar="NET",
        help="MODEL or MODEL=POISONED.h5,.. (default: the challenge's four)",
    )
    add(
        "--repairs",
        nargs="+",
        choices=REPAIRS.names(),
        default=DEFAULT_REPAIRS,
        metavar="NAME",
        help="repair methods, see below",
    )
    add(
        "--detectors",
        nargs="+",
        choices=DETECTOR_NAMES,
        default=DEFAULT_DETECTORS,
        metavar="NAME",
        help="run-time detectors, see below",
    )
    add("--seeds", nargs="+", type=seed, default=[0], metavar="SEED", help="one run per seed")
    add("--data", default="data", metavar="FOLDER", help="folder of the challenge's files")
    add("--clean-validation", metavar="DATA", help="clean images to repair and set thresholds with")
    add("--clean-test", metavar="DATA", help="clean images to measure with")
    add_false_positive_rate(parser, default=RATE)
    add(
        "--scans",
        default="results/scan",
        metavar="FOLDER",
        help="folder of the models' scans, for scan-unlearning and the page",
    )
    add("--out", default="results/compare", metavar="FOLDER", help="output folder")
    add_reading(parser)
    add_engine(parser)
    add_repairs_table(parser)
    parser.add_table("detectors", DETECTORS.items())


def run(arguments: argparse.Namespace) -> None:
    """Runs every combination, prints the table and writes table and page."""
    out = Path(arguments.out)
    check_writable(out / "report.html", out / "leaderboard.csv")
    load_tensorflow()
    from badnet_defense.benchmarking.cases import read_case
    from badnet_defense.benchmarking.compare import CompareConfig, compare
    from badnet_defense.report.comparison import (
        leaderboard,
        leaderboard_text,
        verdicts,
        write_csv,
    )
    from badnet_defense.report.comparison_page import write_page
    from badnet_defense.report.promises import comparison_notes
    from badnet_defense.workflows.scanned import triggers_shown

    named = arguments.nets or [f"models/{name}_bd_net.h5" for name in NETS]
    sets = (arguments.clean_validation, arguments.clean_test)
    cases = [read_case(one, data=arguments.data, validation=sets[0], test=sets[1]) for one in named]
    config = CompareConfig(
        repairs=tuple(arguments.repairs),
        detectors=tuple(arguments.detectors),
        seeds=tuple(arguments.seeds),
        false_positive_rate=arguments.false_positive_rate,
        input_range=arguments.input_range,
    )
    with engine_of(arguments) as engine:
        runs, failed = compare(
            cases,
            out=out,
            scans=arguments.scans,
            config=config,
            executor=engine,
        )
    if not runs:
        raise InputError(f"none of {len(failed)} runs could be done; see the messages above.")
    rows = leaderboard(runs)
    pictures = {
        run["name"]: picture
        for run in runs
        if (picture := triggers_shown(Path(arguments.scans) / run["name"], run["net"]["sha256"]))
    }
    print(leaderboard_text(rows))
    for net, notes in comparison_notes(runs).items():
        for note in notes:
            print(f"{printable(net)}: {note}")
    write_csv(out / "leaderboard.csv", rows)
    command = shlex.join(["badnet-defense", *sys.argv[1:]])
    sentences = verdicts(rows, "fine-pruning", "soft")
    write_page(out / "report.html", runs, rows, sentences, failed, command, pictures)
    print(printable(f"written: {out / 'report.html'}, {out / 'leaderboard.csv'}"))
    if failed:
        raise InputError(f"{len(failed)} runs failed; rerun the command to try only these.")
