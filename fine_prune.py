#!/usr/bin/env python3
"""Repairs a backdoored model by fine-pruning, or by another --method: badnet-defense repair."""

from badnet_defense.cli import repair
from badnet_defense.cli.main import run_script

if __name__ == "__main__":
    run_script(__file__, __doc__, repair.add_arguments, repair.run)
