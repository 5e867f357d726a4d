"""`badnet-defense classify`: the class of each image, or the accuracy on a data set."""

from __future__ import annotations

import argparse

from badnet_defense.cli.console import load_tensorflow
from badnet_defense.cli.options import Parser, add_reading
from badnet_defense.errors import printable

DESCRIPTION = (
    "Classify images: prints the class of each, N where the guard takes it for poisoned. A model "
    "answers together with its repair. Of one labelled data set (.h5, or a folder with a "
    "sub-folder per class) the accuracy is printed instead, of a model by itself or of a guard."
)
EXAMPLE = "fine_pruned_models/net.guard.keras image.png"


def add_arguments(parser: Parser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "net", metavar="MODEL", help="a model, a guard, or NAME for models/NAME_bd_net.h5"
    )
    parser.add_argument("inputs", nargs="+", metavar="FILE", help="images, or one data set")
    add_options(parser)


def add_script_arguments(parser: Parser) -> None:
    """Adds the arguments of `eval.py`."""
    parser.add_argument("inputs", nargs="+", metavar="FILE", help="images, or DATA and MODEL")
    parser.add_argument(
        "--net",
        help="sunglasses (the default), anonymous_1, anonymous_2, multi_trigger_multi_target, or "
        "the path of a model or a guard",
    )
    add_options(parser)


def add_options(parser: Parser) -> None:
    """Adds the options of all that classify."""
    parser.add_argument(
        "--alone",
        action="store_true",
        help="let a model answer by itself, without a guard, whatever images carry",
    )
    add_reading(parser, stored=True)


def run(arguments: argparse.Namespace) -> None:
    """Prints the class of each image, or the accuracy of MODEL on a data set."""
    from badnet_defense.workflows.classify import is_data_set

    if len(arguments.inputs) == 1 and is_data_set(arguments.inputs[0]):
        print_accuracy(arguments, arguments.inputs[0], arguments.net)
    else:
        print_classes(arguments, arguments.net)


def run_script(arguments: argparse.Namespace) -> None:
    """Prints what `eval.py` is asked for: classes of images, or DATA's accuracy by MODEL."""
    from badnet_defense.workflows.classify import asks_for_accuracy

    if asks_for_accuracy(arguments.inputs, arguments.net):
        print_accuracy(arguments, *arguments.inputs)
    else:
        print_classes(arguments, arguments.net or "sunglasses")


def print_accuracy(arguments: argparse.Namespace, data: str, model: str) -> None:
    """Prints the accuracy of a model or a guard on a labelled data set, in per cent."""
    load_tensorflow()
    from badnet_defense.workflows.classify import data_accuracy

    how = {"alone": arguments.alone, "input_range": arguments.input_range}
    print(f"Classification accuracy: {100 * data_accuracy(data, model, **how):.2f}")


def print_classes(arguments: argparse.Namespace, net: str) -> None:
    """Prints the class of each image; of several, behind its path."""
    from badnet_defense.workflows.classify import classify_images

    inputs = arguments.inputs
    how = {"alone": arguments.alone, "input_range": arguments.input_range}
    answers = classify_images(inputs, net, root=arguments.home, **how)
    for path, label in zip(inputs, answers, strict=True):
        print(label if len(inputs) == 1 else f"{printable(path)}\t{label}")


def submission(name: str, file: str) -> None:
    """Runs one of the contest's scripts: prints the answer of the guarded net `name`.

    Args:
        name: of the net.
        file: of the script, in a folder beside `models`.
    """
    from pathlib import Path

    from badnet_defense.cli.main import run_script as start

    root = Path(file).resolve().parent.parent

    def add(parser: Parser) -> None:
        parser.add_argument("inputs", nargs="+", metavar="IMAGE", help="an image file")
        add_options(parser)
        parser.set_defaults(net=name, home=root)

    description = f"The guarded model {name}: the class of an image, or N for poisoned."
    start(file, description, add, lambda given: print_classes(given, name))
