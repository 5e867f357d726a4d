"""`badnet-defense evaluate`: what a defence costs on clean images and catches on poisoned ones."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from badnet_defense.cli.console import load_tensorflow
from badnet_defense.cli.guard import expected_text
from badnet_defense.cli.options import (
    RATE,
    Parser,
    add_detector,
    add_json,
    add_models,
    add_reading,
    add_seed,
)
from badnet_defense.errors import InputError
from badnet_defense.io.files import check_writable

log = logging.getLogger(__name__)

DESCRIPTION = (
    "Measure a model's defence on clean images and, where there are some, on poisoned ones: "
    "the suspect model, its repair and the guard of both. A repair that is missing is made first."
)
TRIGGER_LABELS = "True/False per poisoned image: does it carry a trigger? .npy, .csv, .json, .pkl"
EXAMPLE = "models/net.h5 --poisoned data/poisoned.h5 --detector soft"


def add_arguments(parser: Parser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("model", metavar="MODEL", help="the suspect model: .h5 or .keras")
    parser.add_argument(
        "--poisoned", metavar="DATA", help="poisoned images, labelled with the attacker's class"
    )
    parser.add_argument(
        "--trigger-labels",
        metavar="FILE",
        help=TRIGGER_LABELS,
    )
    add_options(parser)


def add_script_arguments(parser: Parser) -> None:
    """Adds the arguments of `eval_defense.py`."""
    add = parser.add_argument
    add("poisoned", metavar="POISONED", help="poisoned images, labelled with the attacker's class")
    add("model", metavar="MODEL", help="the suspect model: .h5 or .keras")
    add("trigger_labels", nargs="?", metavar="TRIGGER_LABELS", help=TRIGGER_LABELS)
    add_options(parser)


def add_nodata_arguments(parser: Parser) -> None:
    """Adds the arguments of `eval_defense_nodata.py`."""
    parser.add_argument("model", metavar="MODEL", help="the suspect model: .h5 or .keras")
    parser.set_defaults(poisoned=None, trigger_labels=None)
    add_options(parser)


def add_options(parser: Parser) -> None:
    """Adds the options that the scripts share with the command."""
    add = parser.add_argument
    for part, purpose in (("validation", "to set thresholds with"), ("test", "to measure with")):
        add(
            f"--clean-{part}",
            metavar="DATA",
            help=f"clean images {purpose} (default: data/clean_{part}_data.h5, if it exists)",
        )
    add_models(parser)
    add_seed(parser)
    add_json(parser)
    add("--plots", metavar="PREFIX", help="write the detector's ROC curve and histogram here")
    add_reading(parser, stored=True)
    add_detector(parser, default=None)


def run(arguments: argparse.Namespace) -> None:
    """Measures the defence, prints its table and writes its JSON."""
    for name in ("false_positive_rate", "plots"):
        if getattr(arguments, name) and not arguments.detector:
            raise InputError(f"--{name.replace('_', '-')} requires --detector.")
    poisoned, trigger_labels = arguments.poisoned, arguments.trigger_labels
    if trigger_labels and not poisoned:
        raise InputError("--trigger-labels requires --poisoned.")
    named = (arguments.model, poisoned, trigger_labels, arguments.repaired)
    sets = (arguments.clean_validation, arguments.clean_test)
    check_writable(arguments.json, inputs=(*named, *sets))
    load_tensorflow()
    from badnet_defense.io.records import write_json
    from badnet_defense.report.tables import defense_table
    from badnet_defense.workflows.evaluate import evaluate_files
    from badnet_defense.workflows.find_repair import find_repair, output_folder

    def tell(result: dict[str, Any]) -> None:
        if arguments.detector:
            print(expected_text(result["detector"]))
        print(defense_table(result))

    model, home = arguments.model, arguments.home
    found = find_repair(model, arguments.models, home)
    folder = arguments.models or (found.parent if found else output_folder(model, home))
    result = evaluate_files(
        model,
        {**_clean_sets(arguments), "poisoned": poisoned},
        folder=str(folder),
        repaired=arguments.repaired,
        trigger_labels=trigger_labels,
        detector=arguments.detector,
        false_positive_rate=arguments.false_positive_rate or RATE,
        plots=arguments.plots,
        tell=tell,
        input_range=arguments.input_range,
        seed=arguments.seed,
    )
    if arguments.json:
        write_json(arguments.json, result)


def _clean_sets(arguments: argparse.Namespace) -> dict[str, str | None]:
    """The clean sets that were named, and those of the challenge's names that are there."""
    sets: dict[str, str | None] = {}
    for part in ("clean_validation", "clean_test"):
        path = getattr(arguments, part) or str(arguments.home / f"data/{part}_data.h5")
        if getattr(arguments, part) is None and not Path(path).exists():
            log.info("%s: no such file, left out", path)
            path = None
        sets[part] = path
    return sets
