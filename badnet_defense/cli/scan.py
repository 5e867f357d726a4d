"""`badnet-defense scan`: finds a model's target labels."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from badnet_defense.cli.console import CANNOT_JUDGE, FOUND, load_tensorflow
from badnet_defense.cli.options import (
    Parser,
    add_engine,
    add_json,
    add_reading,
    add_seed,
    engine_of,
    labels,
    verdict_codes,
)
from badnet_defense.errors import InputError
from badnet_defense.io.files import check_writable

log = logging.getLogger(__name__)

DESCRIPTION = (
    "Find a model's target labels by inverting a trigger for each label. Rerun the command to "
    "resume an interrupted scan."
)
REPAIRS = ("scan-pruning", "scan-unlearning")
"""Repairs that use a scan's triggers."""
OLD_NAMES = {"prune": "scan-pruning", "unlearn": "scan-unlearning"}
"""What they were called here before."""
EXAMPLE = "models/net.h5 --clean data/clean_validation_data.h5"


def add_arguments(parser: Parser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="the suspect model: .h5 or .keras")
    add(
        "--clean",
        required=True,
        metavar="DATA",
        help="clean images, 32 or more; labels are not needed",
    )
    add(
        "--labels",
        type=labels,
        help="labels to scan, such as 0-42 or 1,5,8; few are compared with others, scanned beside "
        "them (default: all)",
    )
    add("--budget", choices=("fast", "full"), default="fast", help="steps per label")
    add(
        "--repair",
        choices=(*REPAIRS, *OLD_NAMES),
        metavar="NAME",
        help="also repair with the triggers found: scan-pruning or scan-unlearning",
    )
    add(
        "--pseudo-labels",
        action="store_true",
        help="repair with the model's predicted probabilities as labels",
    )
    add("--out", metavar="STEM", help="output path without endings (default: results/scan/<stem>)")
    add_json(parser)
    add_seed(parser)
    add_reading(parser)
    add_engine(parser)
    verdict_codes(parser)


def run(arguments: argparse.Namespace) -> int:
    """Scans, prints the verdict and writes the files."""
    load_tensorflow()
    from badnet_defense.io.records import write_json
    from badnet_defense.report.tables import defense_table, scan_text
    from badnet_defense.scan.scan import ScanConfig
    from badnet_defense.workflows.scan import scan_file

    if arguments.pseudo_labels and not arguments.repair:
        raise InputError("--pseudo-labels requires --repair; a scan itself needs no labels.")
    check_writable(arguments.json, inputs=(arguments.model, arguments.clean))

    def tell(result: dict[str, Any]) -> None:
        print(scan_text(result))
        if "repair" in result:
            print(defense_table(result["repair"]))

    chosen = None if arguments.labels is None else tuple(arguments.labels)
    with engine_of(arguments) as engine:
        result = scan_file(
            arguments.model,
            arguments.clean,
            out=arguments.out or f"results/scan/{Path(arguments.model).stem}",
            config=ScanConfig(labels=chosen, budget=arguments.budget),
            repair=OLD_NAMES.get(arguments.repair, arguments.repair),
            pseudo_labels=arguments.pseudo_labels,
            input_range=arguments.input_range,
            seed=arguments.seed,
            executor=engine,
            report=tell,
        )
    if arguments.json:
        write_json(arguments.json, result)
    if arguments.repair and "repair" not in result:
        log.warning("no label was flagged: there is nothing to repair, and no net was written")
    return verdict_code([result["verdict"]])


def verdict_code(verdicts: list[str]) -> int:
    """The exit code of a command that gave these verdicts (`scan.verdict`)."""
    from badnet_defense.scan.verdict import BACKDOORED, CLEAN

    if BACKDOORED in verdicts:
        return FOUND
    return 0 if all(verdict == CLEAN for verdict in verdicts) else CANNOT_JUDGE
