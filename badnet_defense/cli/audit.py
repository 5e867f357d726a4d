"""`badnet-defense audit`: scans many models from outside."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

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
from badnet_defense.repairs.registry import REPAIRS

if TYPE_CHECKING:
    from badnet_defense.benchmarking.audit import AuditConfig

log = logging.getLogger(__name__)

DESCRIPTION = (
    "Load and scan many models: a verdict for each, a table, CSV and one HTML page. Finished "
    "verdicts are reused; rerun the command to resume."
)
EXAMPLE = "models/ --clean data/clean_validation_data.h5"


def add_arguments(parser: Parser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add(
        "nets",
        metavar="MODELS",
        help="a folder of models, or a list: MODEL or MODEL,CLEAN or MODEL,CLEAN,LOW,HIGH per line",
    )
    add("--clean", metavar="DATA", help="clean images, for models whose line names none")
    add("--budget", choices=("fast", "full"), default="fast", help="steps per label")
    add(
        "--repair",
        choices=REPAIRS.names(),
        metavar="NAME",
        help="also repair the backdoored models and build their guards; methods below",
    )
    add_old_name(parser, "--method", "repair", choices=REPAIRS.names())
    add(
        "--detector",
        choices=DETECTOR_NAMES,
        metavar="NAME",
        help="detector of their guards, see below (default: soft)",
    )
    add_old_name(parser, "--guard", "detector", choices=DETECTOR_NAMES)
    add_seed(parser)
    add("--out", default="results/audit", metavar="FOLDER", help="output folder")
    add_reading(parser)
    add_engine(parser)
    add_repairs_table(parser)
    parser.add_table("detectors", DETECTORS.items())
    verdict_codes(parser)


def run(arguments: argparse.Namespace) -> int:
    """Gives each model its verdict, prints the table and writes table and page."""
    if arguments.detector and not arguments.repair:
        raise InputError("--detector requires --repair: a guard needs a repaired model.")
    from badnet_defense.benchmarking.model_list import read_model_list

    out = Path(arguments.out)
    check_writable(out / "audit.html", out / "audit.csv")
    suspects = read_model_list(arguments.nets, arguments.clean, out=arguments.out)
    load_tensorflow()
    if arguments.repair:
        refuse_jax("--repair")
    from badnet_defense.benchmarking.audit import audit
    from badnet_defense.report.audit import (
        audit_rows,
        audit_sentence,
        audit_text,
        write_audit_page,
    )
    from badnet_defense.report.comparison import write_csv
    from badnet_defense.workflows.scanned import triggers_shown

    with engine_of(arguments) as engine:
        results = audit(suspects, out=out, config=config_of(arguments), executor=engine)
    rows = audit_rows(results)
    print(audit_text(rows))
    print(audit_sentence(rows))
    for result in results:  # the table has no room for whole sentences
        if result["reason"]:
            log.warning("%s: %s: %s", result["name"], result["verdict"], result["reason"])
    command = shlex.join(["badnet-defense", *sys.argv[1:]])
    pictures = {
        result["name"]: triggers_shown(out / "scans" / result["name"], result["net"]["sha256"])
        for result in results
        if result["verdict"] != "clean" and "flagged" in result
    }
    write_csv(out / "audit.csv", rows)
    write_audit_page(out / "audit.html", results, rows, command, str(out / "scans"), pictures)
    print(printable(f"written: {out / 'audit.html'}, {out / 'audit.csv'}"))
    return verdict_code([row["verdict"] for row in rows])


def refuse_jax(what: str) -> None:
    """Refuses what repairs where Keras computes with JAX."""
    from badnet_defense.nets.backend import on_jax

    if on_jax():
        raise InputError(f"{what} cannot be used with KERAS_BACKEND=jax; repairs need TensorFlow.")


def config_of(arguments: argparse.Namespace) -> AuditConfig:
    """The settings of an audit, or of a check, which is one with everything on."""
    from badnet_defense.benchmarking.audit import AuditConfig

    return AuditConfig(
        budget=arguments.budget,
        repair=arguments.repair,
        guard=arguments.detector or "soft",
        input_range=arguments.input_range,
        seed=arguments.seed,
    )
