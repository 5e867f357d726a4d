"""`badnet-defense guard`: builds a guard with a target false-positive rate."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from badnet_defense.cli.console import load_tensorflow
from badnet_defense.cli.options import Parser, add_detector, add_models, add_reading, add_seed
from badnet_defense.errors import InputError, printable
from badnet_defense.io.files import check_writable

DESCRIPTION = (
    "Build a guard: one model that answers as the suspect model on clean images, and N for an "
    "image that carries a trigger. Clean images set its threshold for a target false-positive rate."
)
EXAMPLE = "models/net.h5 --clean data/clean_validation_data.h5 --out guard.keras"


def add_arguments(parser: Parser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="the suspect model: .h5 or .keras")
    add("--clean", required=True, metavar="DATA", help="clean images; labels are not needed")
    add("--out", required=True, metavar="GUARD.keras", help="the guard to write")
    add_models(parser)
    add_seed(parser)
    add_reading(parser, stored=True)
    add_detector(parser, default="soft")


def run(arguments: argparse.Namespace) -> None:
    """Fits the detector and writes the guard."""
    out = arguments.out
    if Path(out).suffix != ".keras":
        raise InputError(f"--out {out}: expected a file name that ends in .keras.")
    inputs = (arguments.model, arguments.clean, arguments.repaired)
    check_writable(out, f"{out}.json", inputs=inputs)
    repaired = repair_path(arguments)
    load_tensorflow()
    from badnet_defense.workflows.detect import guard_file

    def tell(result: dict[str, Any]) -> None:
        print(f"{printable(out)}: {expected_text(result['detector'])}")

    guard_file(
        arguments.model,
        arguments.clean,
        out=out,
        name=arguments.detector,
        repaired=repaired,
        false_positive_rate=arguments.false_positive_rate,
        tell=tell,
        input_range=arguments.input_range,
        seed=arguments.seed,
    )


def repair_path(arguments: argparse.Namespace) -> str | None:
    """The repaired model that `--repaired`, `--models` and `--detector` ask for; None: none."""
    from badnet_defense.detectors.registry import needs_repair
    from badnet_defense.workflows.find_repair import require_repair

    if arguments.repaired or not needs_repair(arguments.detector):
        return arguments.repaired
    return str(require_repair(arguments.model, arguments.models, arguments.home))


def expected_text(detector: dict[str, Any]) -> str:
    """Which false-positive rate to expect of a fitted detector, from its figures."""
    expected = detector["expected"]
    percent = [f"{100 * expected[name]:.2f}" for name in ("rate", "low", "high")]
    how = ", cross-fitted" if detector["cross_fitted"] else ""
    caveat = f"; this {expected['caveat']}" if expected.get("caveat") else ""
    return (
        "detector {!r}, threshold {:.4g}; expect a false-positive rate of {} % (95 %: {} to {} %), "
        "by {} clean images{}{}"
    ).format(detector["name"], detector["threshold"], *percent, expected["pictures"], how, caveat)
