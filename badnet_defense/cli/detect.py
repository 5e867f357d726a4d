"""`badnet-defense detect`: asks a run-time detector about images and data sets."""

from __future__ import annotations

import argparse
from typing import Any

from badnet_defense.cli.console import load_tensorflow
from badnet_defense.cli.guard import expected_text, repair_path
from badnet_defense.cli.options import Parser, add_detector, add_models, add_reading, add_seed
from badnet_defense.errors import printable
from badnet_defense.io.files import check_writable

DESCRIPTION = (
    "Ask a run-time detector about images: prints the anomaly score of each (higher is more "
    "anomalous) and whether it exceeds the threshold that clean images set; of a data set, the "
    "mean score and the detection rate."
)
EXAMPLE = "models/net.h5 image.png --clean data/clean_validation_data.h5"


def add_arguments(parser: Parser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="the suspect model: .h5 or .keras")
    add("inputs", nargs="+", metavar="FILE", help="image files and data sets (.h5)")
    add("--clean", required=True, metavar="DATA", help="clean images; labels are not needed")
    add("--out", metavar="PNG", help="also draw a histogram of the scores")
    add_models(parser)
    add_seed(parser)
    add_reading(parser, stored=True)
    add_detector(parser, default="soft")


def run(arguments: argparse.Namespace) -> None:
    """Fits the detector and prints what it says of each file."""
    if arguments.command == "strip":  # the command's old name, when it knew STRIP alone
        arguments.detector = "strip"
    check_writable(arguments.out, inputs=(arguments.model, arguments.clean, *arguments.inputs))
    repaired = repair_path(arguments)
    load_tensorflow()
    from badnet_defense.workflows.detect import detect_files

    detect_files(
        arguments.model,
        arguments.clean,
        arguments.inputs,
        name=arguments.detector,
        repaired=repaired,
        out=arguments.out,
        false_positive_rate=arguments.false_positive_rate,
        tell=_tell,
        input_range=arguments.input_range,
        seed=arguments.seed,
    )


def _tell(result: dict[str, Any]) -> None:
    print(expected_text(result["detector"]))
    threshold = result["detector"]["threshold"]
    for path, scores in result["scores"].items():
        path = printable(path)
        if len(scores) == 1:
            verdict = "suspicious" if scores[0] > threshold else "clean"
            print(f"{path}\t{scores[0]:.4g}\t{verdict}")
        else:
            rate = (scores > threshold).mean()
            print(f"{path}\tmean {scores.mean():.4g}\t{rate:.1%} of {len(scores)} suspicious")
