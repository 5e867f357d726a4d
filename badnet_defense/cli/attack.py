"""`badnet-defense attack`: poisons a data set and trains a BadNet on it, for experiments."""

from __future__ import annotations

import argparse
from typing import Any

from badnet_defense.attacks.registry import ATTACKS
from badnet_defense.cli.console import load_tensorflow
from badnet_defense.cli.options import Parser, add_reading, add_seed
from badnet_defense.errors import printable

DESCRIPTION = (
    "Poison a labelled data set and train a BadNet on it, to try a defence against an attack that "
    "you know: writes the poisoned training set, which of its images are poisoned, the model, and "
    "a poisoned test set per trigger."
)
EXAMPLE = (
    "data/train.h5 --trigger patch:size=4,colour=255/255/0 --target 3 --rate 0.05 --name yellow"
)


def add_arguments(parser: Parser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("data", metavar="DATA", help="labelled clean images: .h5, or a folder")
    add(
        "--trigger",
        action="append",
        metavar="SPEC",
        help="NAME or NAME:SETTING=VALUE,.. of a trigger below; give it again for several "
        "(default: patch)",
    )
    add(
        "--target",
        action="append",
        type=int,
        metavar="CLASS",
        help="the attacker's class, once for all triggers or once per trigger (default: 0)",
    )
    add("--rate", type=float, default=0.1, help="poisoned fraction of the images, in (0, 1]")
    add(
        "--architecture",
        default="small-cnn",
        metavar="NAME",
        help="deep-id, small-cnn, or a model whose layers are taken, with new weights",
    )
    add("--test", metavar="DATA", help="labelled clean test images (default: a fifth of DATA)")
    add("--epochs", type=int, default=10, metavar="N", help="epochs of training")
    add("--batch-size", type=int, default=256, metavar="N", help="images per step")
    add("--learning-rate", type=float, default=1e-3, metavar="RATE", help="learning rate at first")
    add("--shift", type=int, default=0, metavar="PIXELS", help="random shift in training, at most")
    add("--name", default="attack", help="name of the attack, for the files' names")
    add("--out", default="data", metavar="FOLDER", help="output folder for the data")
    add("--models", default="models", metavar="FOLDER", help="output folder for the model")
    add_seed(parser)
    add_reading(parser)
    parser.add_table("triggers", ((method.name, method.summary) for method in ATTACKS))
    settings = ((method.name, ", ".join(map(str, method.defaults()))) for method in ATTACKS)
    parser.add_table("settings", settings)


def run(arguments: argparse.Namespace) -> None:
    """Poisons, trains, prints accuracy and attack success, and writes the files."""
    load_tensorflow()
    from badnet_defense.attacks.lab import AttackConfig, attack_files
    from badnet_defense.attacks.training import TrainingConfig

    def tell(result: dict[str, Any]) -> None:
        print(f"clean accuracy: {_percent(result['accuracy'])}")
        for name, figures in result["attack_success"].items():
            print(f"{name} -> class {figures['target']}: attack success {_percent(figures)}")

    config = AttackConfig(
        triggers=tuple(arguments.trigger or ("patch",)),
        targets=tuple(arguments.target or (0,)),
        fraction=arguments.rate,
        architecture=arguments.architecture,
        training=TrainingConfig(
            epochs=arguments.epochs,
            learning_rate=arguments.learning_rate,
            batch_size=arguments.batch_size,
            shift=arguments.shift,
        ),
        input_range=arguments.input_range,
        seed=arguments.seed,
    )
    attack_files(
        arguments.data,
        name=arguments.name,
        data_folder=arguments.out,
        model_folder=arguments.models,
        config=config,
        test=arguments.test,
        tell=tell,
    )
    model = f"{arguments.models}/{arguments.name}_bd_net.h5"
    print(printable(f"written: {model}, {arguments.out}/{arguments.name}_*"))


def _percent(figures: dict[str, Any]) -> str:
    low, high = figures["interval"]
    return f"{100 * figures['fraction']:.1f} % (95 %: {100 * low:.1f} to {100 * high:.1f} %)"
