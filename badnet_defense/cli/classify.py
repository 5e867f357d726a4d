"""`badnet-defense classify`: the class of each image, or the accuracy on a data set."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from badnet_defense.cli.console import load_tensorflow
from badnet_defense.cli.options import Parser, add_reading
from badnet_defense.errors import InputError, printable

DESCRIPTION = (
    "Classify images: prints the class of each, N where the guard takes it for poisoned. A model "
    "answers together with its repair. Of one labelled data set (.h5, or a folder with a "
    "sub-folder per class) the accuracy is printed instead, of a model by itself or of a guard."
)
ARTICLES = {
    "image": "an image",
    "folder": "a folder",
    "HDF5 file": "an HDF5 file",
    ".keras file": "a .keras file",
}
HDF5_START, ZIP_START = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
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
    if len(arguments.inputs) == 1 and kind_of(arguments.inputs[0]) in ("folder", "HDF5 file"):
        print_accuracy(arguments, arguments.inputs[0], arguments.net)
    else:
        print_classes(arguments, arguments.net)


def run_script(arguments: argparse.Namespace) -> None:
    """Prints what `eval.py` is asked for: classes of images, or DATA's accuracy by MODEL."""
    if asks_for_accuracy(arguments.inputs, arguments.net):
        print_accuracy(arguments, *arguments.inputs)
    else:
        print_classes(arguments, arguments.net or "sunglasses")


def asks_for_accuracy(inputs: Sequence[str], net: str | None) -> bool:
    """True where `eval.py` was given data and a model, False where it was given images.

    Args:
        inputs: the paths on its command line.
        net: what `--net` named, or None.

    Raises:
        InputError: it was given neither.
    """
    kinds = [kind_of(path) for path in inputs]
    if set(kinds) == {"image"}:
        return False
    data = len(inputs) == 2 and kinds[0] in ("folder", "HDF5 file") and kinds[1] != "folder"
    if data and net is None and kinds[1] != "image":
        return True
    place = next(place for place, kind in enumerate(kinds) if kind != "image")
    got = f"{inputs[place]} is {ARTICLES[kinds[place]]}"
    if data and net is None:
        got = f"{inputs[1]} is no model (.h5 or .keras)"
    elif kinds[0] == "folder" and len(inputs) == 1:
        got = f"{inputs[0]} is a folder, and no model came behind it"
    elif kinds[-1] == "folder":
        got = f"{inputs[-1]} is a folder of images and stands last"
    raise InputError(
        f"{got}; expected DATA and MODEL, in this order and without --net (eval.py images/ "
        "net.h5), or images alone (eval.py image.png --net net.h5)."
    )


def kind_of(path: str) -> str:
    """What a path is at first sight, a key of `ARTICLES`; "image" where it is nothing else."""
    place = Path(path)
    if place.is_dir():
        return "folder"
    start = b""
    if place.is_file():
        try:
            with open(place, "rb") as file:
                start = file.read(len(HDF5_START))
        except OSError:
            return "image"  # its reader says why it cannot be read
    elif place.suffix in (".h5", ".hdf5"):
        start = HDF5_START
    elif place.suffix == ".keras":
        start = ZIP_START
    if start == HDF5_START:
        return "HDF5 file"
    return ".keras file" if start.startswith(ZIP_START) else "image"


def print_accuracy(arguments: argparse.Namespace, data: str, model: str) -> None:
    """Prints the accuracy of a model or a guard on a labelled data set, in per cent."""
    load_tensorflow()
    from badnet_defense.workflows.classify import data_accuracy

    accuracy = data_accuracy(data, model, alone=arguments.alone, input_range=arguments.input_range)
    print(f"Classification accuracy: {100 * accuracy:.2f}")


def print_classes(arguments: argparse.Namespace, net: str) -> None:
    """Prints the class of each image; of several, behind its path."""
    from badnet_defense.workflows.classify import classify_images
    from badnet_defense.workflows.find_repair import NoRepairError

    inputs = arguments.inputs
    try:
        answers = classify_images(
            inputs,
            net,
            home=arguments.home,
            alone=arguments.alone,
            input_range=arguments.input_range,
        )
    except NoRepairError as error:
        told = str(error).rstrip(".")
        raise InputError(f"{told}; or ask it by itself, without a guard: --alone.") from None
    for path, label in zip(inputs, answers, strict=True):
        print(label if len(inputs) == 1 else f"{printable(path)}\t{label}")


def submission(name: str, file: str) -> None:
    """Runs one of the contest's scripts: prints the answer of the guarded net `name`.

    Args:
        name: of the net.
        file: of the script, in a folder beside `models`.
    """
    from badnet_defense.cli.main import run_script as start

    root = Path(file).resolve().parent.parent

    def add(parser: Parser) -> None:
        parser.add_argument("inputs", nargs="+", metavar="IMAGE", help="an image file")
        add_options(parser)
        parser.set_defaults(net=name, home=root)

    description = f"The guarded model {name}: the class of an image, or N for poisoned."
    start(file, description, add, lambda given: print_classes(given, name))
