#!/usr/bin/env python3
"""DeepID, the architecture of the challenge's nets: prints its layers, shapes and parameters."""

from badnet_defense.cli import console
from badnet_defense.nets import deep_id


def main():
    """Prints the summary of a new DeepID."""
    console.parser(__doc__).parse_args()
    console.load_tensorflow()
    deep_id().summary(print_fn=print)


if __name__ == "__main__":
    console.run(main)
