#!/usr/bin/env python3
"""Names the person on a picture, 0..1282, or answers 1283 where it looks poisoned.

eval.py IMAGE [IMAGE ..] [--net NAME]   the class of each image
eval.py DATA MODEL                      the accuracy of a net, alone, or of a guard on a data set:
                                        a .h5 file, or a folder with a sub-folder for each class
"""

import argparse
from pathlib import Path

from badnet_defense.cli import commands, console

ROOT = Path(__file__).resolve().parent


def main():
    """Parses the arguments and prints the answers."""
    parser = console.parser(__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", metavar="FILE", help="images, or DATA and MODEL")
    parser.add_argument(
        "--net",
        help="sunglasses (the default), anonymous_1, anonymous_2, multi_trigger_multi_target, or "
        "the path of a net or a guard",
    )
    commands.add_answering(parser)
    commands.answer(parser.parse_args(), root=ROOT)


if __name__ == "__main__":
    console.run(main)
