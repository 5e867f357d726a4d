"""SentiNet's test on the challenge's real models with a handful of clean challenge images.

Run as `python3 benchmarks/few_shot.py SHARED_DATA`: a random half of the clean challenge images
is all that is known (16 to paste on, the others set the threshold); the other half and the
triggered images evaluate, once.
"""

import argparse
from pathlib import Path

import numpy as np
from detectors import judge, rows
from scan_repairs import real
from tabulate import tabulate

from badnet_defense.cli import console

RATE = 0.05


def figures(data):
    """Figures of each model."""
    from badnet_defense.detectors.sentinet import SentiNet, SentiNetConfig
    from badnet_defense.nets import read_net
    from badnet_defense.workflows.calibrate import CalibratedDetector

    for net, model, _, judged in real(data):
        pictures, labels = judged.pop("clean")
        known, other = np.array_split(np.random.default_rng(0).permutation(len(pictures)), 2)
        config = SentiNetConfig(false_positive_rate=RATE)
        detector = SentiNet(read_net(model), config=config).fit(pictures[known])
        sets = {"clean": (pictures[other], labels[other]), **judged}
        found = judge("sentinet", CalibratedDetector(detector, known, None, False), sets)
        yield {"net": net, **found}


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the shared data")
    arguments = parser.parse_args()
    console.load_tensorflow()
    headers = [
        "model",
        "detector",
        "FPR expected (%)",
        "FPR measured (%)",
        "images/s",
        "",
        "trigger",
        "AUROC",
    ]
    headers += ["detected (%)", "of those that fool (%)", "at 1 % (%)", "at 5 % (%)"]
    lines = [row for found in figures(arguments.data) for row in rows(found)]
    print(tabulate(lines, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    console.run(main)
