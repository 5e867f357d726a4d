#!/usr/bin/env python3
"""Measures a net's defence on clean and on poisoned pictures."""

from pathlib import Path

from badnet_defense.cli import commands, console

ROOT = Path(__file__).resolve().parent


def main():
    """Parses the arguments, measures, and prints the table."""
    parser = console.parser(__doc__)
    add = parser.add_argument
    add("poisoned", help="poisoned pictures, labelled with the attacker's class")
    add("model", help="the bad net: .h5 or .keras")
    add("trigger_labels", nargs="?", help="True/False for each picture: .npy, .csv, .json, .pkl")
    commands.add_defence_options(parser, ROOT)
    add("--plots", metavar="PREFIX", help="write a detector's ROC curve and histogram here")
    arguments = parser.parse_args()
    commands.judge(arguments, poisoned=arguments.poisoned, trigger_labels=arguments.trigger_labels)


if __name__ == "__main__":
    console.run(main)
