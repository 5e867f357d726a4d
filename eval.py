#!/usr/bin/env python3
"""Names the person on a picture, 0..1282, or answers 1283 where it looks poisoned.

eval.py PICTURE [PICTURE ..] [--net NAME]   the class of each picture
eval.py DATA.h5 MODEL                       the accuracy of a net or a guard on a data set
"""

import argparse
from pathlib import Path

from badnet_defense import commands, console

ROOT = Path(__file__).resolve().parent


def main():
    """Parses the arguments and prints the answers."""
    parser = console.parser(__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", metavar="FILE", help="pictures, or DATA.h5 and MODEL")
    parser.add_argument(
        "--net",
        help="sunglasses (the default), anonymous_1, anonymous_2, multi_trigger_multi_target, or "
        "the path of a net or a guard",
    )
    console.add_reading(parser)
    commands.answer(parser.parse_args(), root=ROOT)


if __name__ == "__main__":
    console.run(main)
