"""`badnet-defense demo`: makes the demo challenge."""

from __future__ import annotations

import argparse
from pathlib import Path

from badnet_defense.cli.console import load_tensorflow
from badnet_defense.cli.options import Parser, add_seed
from badnet_defense.errors import InputError
from badnet_defense.io.files import check_writable

DESCRIPTION = (
    "Make the demo challenge: drawn faces and weights-only models in the challenge's files."
)
EXAMPLE = "--train"


def add_arguments(parser: Parser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("--out", default="data", metavar="FOLDER", help="output folder for the data")
    add("--train", action="store_true", help="also train its four models (takes about 1 hour)")
    add(
        "--hard",
        action="store_true",
        help="with --train: train the hard mode's two models instead, of a rare and of a "
        "pruning-aware attack",
    )
    add("--models", default="models", metavar="FOLDER", help="output folder for the models")
    add_seed(parser)


def run(arguments: argparse.Namespace) -> None:
    """Draws the data and, where asked for, trains the models."""
    from badnet_defense.demo import (
        BACKDOORS,
        HARD,
        make_challenge,
        train_demo_nets,
        write_weights_only,
    )

    if arguments.hard and not arguments.train:
        raise InputError("--hard requires --train: it only changes training.")
    models = arguments.train or Path(arguments.models).is_dir()
    places = (arguments.out, arguments.models) if models else (arguments.out,)
    check_writable(*(Path(place) / "files" for place in places))
    make_challenge(arguments.out, seed=arguments.seed)
    load_tensorflow()
    if arguments.train:
        names = tuple(HARD if arguments.hard else BACKDOORS)
        train_demo_nets(arguments.models, names=names, seed=arguments.seed)
    write_weights_only(arguments.models)
