#!/usr/bin/env python3
"""Names the person in an image, 0..1282, or answers 1283 where it looks poisoned.

Given DATA and MODEL, it prints the accuracy of a model by itself, or of a guard, on a labelled
data set: a .h5 file, or a folder with a sub-folder per class.
"""

from badnet_defense.cli import classify
from badnet_defense.cli.main import run_script

if __name__ == "__main__":
    run_script(__file__, __doc__, classify.add_script_arguments, classify.run_script)
