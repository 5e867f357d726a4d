"""`badnet-defense show`: what is in a data set, and what a model answers."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from badnet_defense.cli.console import load_tensorflow
from badnet_defense.cli.options import Parser, add_models, add_reading
from badnet_defense.errors import InputError, printable
from badnet_defense.io.files import check_writable

DESCRIPTION = (
    "Show a data set: shape, range, images per class, classes that are missing, labels outside the "
    "model's classes, copies, and a contact sheet by label. With a model: its answers, and where "
    "they differ from the labels. With its repair: the images on which both differ, written as "
    "trigger labels that `evaluate --trigger-labels` takes."
)
EXAMPLE = "data/poisoned.h5 models/net.h5"


def add_arguments(parser: Parser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("data", metavar="DATA", help="a .h5 file, a folder of images, or an image")
    add("model", metavar="MODEL", nargs="?", help="a model: .h5 or .keras")
    add_models(parser)
    add("--out", metavar="STEM", help="output path without endings (default: results/show/<stem>)")
    add_reading(parser, stored=True)


def run(arguments: argparse.Namespace) -> None:
    """Prints what is in the data set and writes the page."""
    for name in ("repaired", "models"):
        if getattr(arguments, name) and not arguments.model:
            raise InputError(f"--{name} requires MODEL.")
    out = arguments.out or f"results/show/{Path(arguments.data).stem}"
    check_writable(f"{out}.html", inputs=(arguments.data, arguments.model, arguments.repaired))
    repaired = arguments.repaired
    if arguments.model:
        load_tensorflow()
        from badnet_defense.workflows.find_repair import find_repair

        found = find_repair(arguments.model, arguments.models, arguments.home)
        repaired = repaired or (None if found is None else str(found))
    from badnet_defense.report.show import show_lines
    from badnet_defense.workflows.show import show_file

    result = show_file(
        arguments.data,
        arguments.model,
        out=out,
        repaired=repaired,
        input_range=arguments.input_range,
        command=shlex.join(["badnet-defense", *sys.argv[1:]]),
    )
    print(*map(printable, show_lines(result)), sep="\n")
    if "repaired" in result:
        print(printable(f"trigger labels: {result['repaired']['trigger_labels']}"))
    print(printable(f"written: {out}.html, {out}.json"))
