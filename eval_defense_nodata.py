#!/usr/bin/env python3
"""Measures a net's defence on clean pictures, where no poisoned ones are at hand."""

from pathlib import Path

from badnet_defense.cli import commands, console

ROOT = Path(__file__).resolve().parent


def main():
    """Parses the arguments, measures, and prints the table."""
    parser = console.parser(__doc__)
    parser.add_argument("model", help="the bad net: .h5 or .keras")
    commands.add_defence_options(parser, ROOT)
    commands.judge(parser.parse_args())


if __name__ == "__main__":
    console.run(main)
