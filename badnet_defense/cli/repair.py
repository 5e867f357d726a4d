"""`badnet-defense repair`: removes a backdoor from a model."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from badnet_defense.cli.console import load_tensorflow
from badnet_defense.cli.options import (
    Parser,
    add_json,
    add_old_name,
    add_reading,
    add_repairs_table,
    add_seed,
)
from badnet_defense.errors import InputError, printable
from badnet_defense.io.files import check_writable
from badnet_defense.repairs.registry import DEFAULT, REPAIRS

DESCRIPTION = (
    "Repair a backdoored model with clean images: writes the repaired model, its guard, its "
    "figures and, of fine-pruning, the pruning curve."
)
EXAMPLE = "models/net.h5 --clean data/clean_validation_data.h5 --method ft-sam"


def add_arguments(parser: Parser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="the suspect model: .h5 or .keras")
    add("--clean", metavar="DATA", help="clean images (default: data/clean_validation_data.h5)")
    add(
        "--method",
        choices=REPAIRS.names(),
        default=DEFAULT,
        metavar="NAME",
        help="repair method, see below",
    )
    add_old_name(parser, "--repair", "method", choices=REPAIRS.names())
    add("--layer", help="layer to prune (default: the last convolution on every path)")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument(
        "--max-accuracy-drop",
        type=float,
        metavar="DROP",
        help="prune until accuracy on clean images drops by more, in [0, 1] (default of "
        f"{DEFAULT}: {REPAIRS[DEFAULT].defaults()['max_accuracy_drop']})",
    )
    amount.add_argument(
        "--fraction", type=float, help="prune this fraction of channels instead, in [0, 1]"
    )
    add(
        "--tuning",
        choices=("default", "classic"),
        metavar="RECIPE",
        help="tuning recipe, default or classic (default: the method's own)",
    )
    add(
        "--epochs",
        type=int,
        metavar="N",
        help="epochs of tuning, at least the recipe's steps; 0: none (default: the recipe's)",
    )
    add("--keep-pruned", action="store_true", help="hold the pruned channels at zero")
    add(
        "--pseudo-labels",
        action="store_true",
        help="use the model's predicted probabilities as labels; clean images need none then",
    )
    add_seed(parser)
    add(
        "--out",
        metavar="FOLDER",
        help="output folder (default: fine_pruned_models beside the model's folder, if that is "
        "named models, else in the working folder)",
    )
    add_json(parser)
    add_reading(parser)
    add_repairs_table(parser)


def run(arguments: argparse.Namespace) -> None:
    """Repairs the model, prints the table of the clean images and writes the files."""
    from badnet_defense.workflows.find_repair import output_folder

    clean = arguments.clean or str(arguments.home / "data/clean_validation_data.h5")
    out = arguments.out or str(output_folder(arguments.model, arguments.home))
    check_writable(arguments.json, inputs=(arguments.model, clean))
    load_tensorflow()
    from badnet_defense.io.records import write_json
    from badnet_defense.report.tables import defense_table, repair_text
    from badnet_defense.workflows.repair import repair_file

    def tell(result: dict[str, Any]) -> None:
        print(f"{printable(arguments.model)}: {repair_text(result)}")
        print(defense_table(result))

    settings = {name: getattr(arguments, name) for name in ("method", "pseudo_labels", "seed")}
    result = repair_file(
        arguments.model,
        clean,
        out=out,
        input_range=arguments.input_range,
        tell=tell,
        config=config_of(arguments),
        **settings,
    )
    if arguments.json:
        write_json(arguments.json, result)
    print(f"written to {printable(out)}")


def config_of(arguments: argparse.Namespace) -> Any:
    """The method's settings, as the arguments name them and else its own."""
    from badnet_defense.repairs.recipes import RECIPES

    method = REPAIRS[arguments.method]
    given = {
        name: getattr(arguments, name)
        for name in ("layer", "max_accuracy_drop", "fraction", "keep_pruned")
        if getattr(arguments, name) not in (None, False)
    }
    config = method.make_config(given)
    recipe = own = getattr(config, "tuning", None)
    if arguments.tuning:
        if recipe is None or recipe.sharpness:
            raise InputError(f"--tuning cannot be used with --method {method.name}.")
        recipe = RECIPES[arguments.tuning]
    if arguments.epochs is not None:
        least = 0 if method.facts.get("changes_before_tuning") else 1
        if arguments.epochs < least:
            raise InputError(f"--epochs {arguments.epochs}: expected {least} or more.")
        if recipe is None:
            raise InputError(f"--epochs cannot be used with --method {method.name}.")
        recipe = replace(recipe, epochs=arguments.epochs)
    return config if recipe is own else replace(config, tuning=recipe)
