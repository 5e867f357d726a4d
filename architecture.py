#!/usr/bin/env python3
"""DeepID, the architecture of the challenge's models: prints its layers, shapes and parameters."""

from badnet_defense.cli import console
from badnet_defense.cli.main import run_script


def run(_):
    """Prints the summary of a new DeepID."""
    console.load_tensorflow()
    from badnet_defense.nets import deep_id

    deep_id().summary(print_fn=print)


if __name__ == "__main__":
    run_script(__file__, __doc__, lambda parser: None, run)
