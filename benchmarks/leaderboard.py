"""The grids' runs as one table for docs/results.md.

`python3 benchmarks/leaderboard.py results/compare_demo results/compare_signs ..` reads the JSON
files of finished runs. Figures are means over the seeds; attack success is of the trigger and DER
of the one that is worst by it, and of several seeds the worst.
"""

import argparse
from itertools import groupby
from pathlib import Path

import numpy as np
from tabulate import tabulate

from badnet_defense import console
from badnet_defense.measure.results import read_json
from badnet_defense.report.comparison import worst_trigger

ORDER = ("fine-pruning", "fine-tuning", "random-pruning", "magnitude-pruning", "ft-sam", "i-bau",
         "anp", "scan-unlearning", "none")  # fmt: skip
HEADERS = ["net", "repair", "seeds", "bad ACC", "repaired ACC", "repaired ASR",
           "hard: ACC, false alarms, ASR, DER", "soft: ACC, false alarms, ASR, DER"]  # fmt: skip


def mean(runs, name):
    """A clean figure, per cent."""
    return f"{100 * np.mean([run['clean'][name] for run in runs]):.1f}"


def worst(runs, name):
    """A figure of the worst trigger of the worst seed; empty where no trigger is known."""
    found = [worst_trigger(run, name)[name] for run in runs if run["triggers"]]
    if not found:
        return ""
    return f"{100 * max(found):.1f}" if name.endswith("success") else f"{min(found):.3f}"


def guarded(runs):
    """What a guard does, in one cell."""
    if not runs:
        return ""
    figures = [mean(runs, "guard_accuracy"), mean(runs, "false_alarms")]
    return ", ".join(
        [*figures, *filter(None, map(worst, [runs] * 2, ("guard_success", "guard_der")))]
    )


def lines(runs):
    """A line for each net and repair; of detectors without a repair the guard alone."""

    def group(run):
        return run["name"], ORDER.index(run["repair"])

    before = None
    for (net, _), same in groupby(sorted(runs, key=group), key=group):
        same = list(same)
        by_detector = {name: [run for run in same if run["detector"] == name]
                       for name in ("hard", "soft", "sentinet")}  # fmt: skip
        first = [run for run in same if run["detector"] == same[0]["detector"]]
        shown = net.removesuffix("_bd_net") if net != before else ""
        bad = mean(first, "bad_accuracy") if shown else ""
        cells = [shown, same[0]["repair"], len(first), bad]
        if by_detector["sentinet"]:
            cells[1:4] = "none, `sentinet`", len(first), ""
            yield [*cells, "", "", "", guarded(by_detector["sentinet"])]
        else:
            cells += [mean(first, "repaired_accuracy"), worst(first, "repaired_success")]
            yield [*cells, guarded(by_detector["hard"]), guarded(by_detector["soft"])]
        before = net


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    arguments = parser.parse_args()
    runs = [read_json(path) for folder in arguments.folders for path in folder.glob("runs/*.json")]
    table = list(lines(runs))
    print(tabulate(table, HEADERS, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    console.run(main)
