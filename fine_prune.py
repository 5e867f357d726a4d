#!/usr/bin/env python3
"""Repairs a backdoored net: fine-pruning (rank channels, prune the dormant, tune) or --method."""

from pathlib import Path

from badnet_defense.cli import commands, console

ROOT = Path(__file__).resolve().parent


def main():
    """Parses the arguments, repairs, and prints the table of the clean pictures."""
    parser = console.parser(__doc__)
    parser.add_argument("model", help="the bad net: .h5 or .keras")
    commands.add_repair_options(parser, ROOT)
    commands.repair(parser.parse_args())


if __name__ == "__main__":
    console.run(main)
