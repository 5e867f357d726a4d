#!/usr/bin/env python3
"""Measures a defence on clean and on poisoned images: badnet-defense evaluate --poisoned."""

from badnet_defense.cli import evaluate
from badnet_defense.cli.main import run_script

if __name__ == "__main__":
    run_script(__file__, __doc__, evaluate.add_script_arguments, evaluate.run)
