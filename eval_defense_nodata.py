#!/usr/bin/env python3
"""Measures a defence on clean images, where no poisoned ones are at hand."""

from badnet_defense.cli import evaluate
from badnet_defense.cli.main import run_script

if __name__ == "__main__":
    run_script(__file__, __doc__, evaluate.add_nodata_arguments, evaluate.run)
