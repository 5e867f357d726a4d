"""The grids' runs as one table for docs/results.md.

`python3 benchmarks/leaderboard.py --runs docs/runs.csv results/compare_demo ..` adds the finished
runs of these folders to the kept ones in the CSV file, and prints the table of the nets that the
folders hold (without folders: of all). Accuracies and false alarms are means over the seeds; attack
success and DER are of the trigger and of the seed that are worst by them.
"""

import argparse
import csv
from itertools import groupby
from pathlib import Path

from tabulate import tabulate

from badnet_defense import console
from badnet_defense.measure.results import read_json
from badnet_defense.report.comparison import worst_trigger, write_csv

ORDER = ("fine-pruning", "fine-tuning", "random-pruning", "magnitude-pruning", "ft-sam", "i-bau",
         "anp", "scan-unlearning", "none")  # fmt: skip
HEADERS = ["net", "repair", "seeds", "bad ACC", "repaired ACC", "repaired ASR",
           "hard: ACC, false alarms, ASR, DER", "soft: ACC, false alarms, ASR, DER"]  # fmt: skip
NAMES = ("net", "repair", "detector", "seeds")
CLEAN = ("bad_accuracy", "repaired_accuracy", "guard_accuracy", "false_alarms")
ATTACK = ("repaired_success", "guard_success", "guard_der")


def line_of(run):
    """A run as a line of the CSV file; shares in [0, 1], empty where there is no such figure."""
    names = (run["name"].removesuffix("_bd_net"), run["repair"], run["detector"], str(run["seed"]))
    clean = {name: run["clean"].get(name) for name in CLEAN}
    attack = {name: worst_trigger(run, name).get(name) for name in ATTACK}
    return dict(zip(NAMES, names, strict=True)) | {
        name: "" if value is None else f"{value:.4f}" for name, value in (clean | attack).items()
    }


def with_runs(kept, found):
    """The kept lines and those of the found runs whose seeds they lack, sorted."""
    lines = list(kept)
    for line in found:
        same = [one for one in lines if key_of(one) == key_of(line)]
        if not any(line["seeds"] in one["seeds"].split() for one in same):
            lines.append(line)
    return sorted(lines, key=lambda line: (*key_of(line), line["seeds"]))


def key_of(line):
    """Net, place of the repair, detector."""
    return line["net"], ORDER.index(line["repair"]), line["detector"]


def mean(lines, name):
    """A clean figure over all seeds, per cent; a line counts as often as it has seeds."""
    counts = [len(line["seeds"].split()) for line in lines]
    total = sum(float(line[name]) * n for line, n in zip(lines, counts, strict=True))
    return f"{100 * total / sum(counts):.1f}"


def worst(lines, name):
    """A figure of the worst seed; empty where no trigger is known."""
    found = [float(line[name]) for line in lines if line[name]]
    if not found:
        return ""
    return f"{100 * max(found):.1f}" if name.endswith("success") else f"{min(found):.3f}"


def guarded(lines):
    """What a guard does, in one cell."""
    if not lines:
        return ""
    figures = [mean(lines, "guard_accuracy"), mean(lines, "false_alarms")]
    return ", ".join(
        [*figures, *filter(None, map(worst, [lines] * 2, ("guard_success", "guard_der")))]
    )


def table(lines):
    """A row for each net and repair; of detectors without a repair the guard alone."""
    before = None
    for (net, place), same in groupby(lines, key=lambda line: key_of(line)[:2]):
        same = list(same)
        by_detector = {name: [line for line in same if line["detector"] == name]
                       for name in ("hard", "soft", "sentinet")}  # fmt: skip
        first = [line for line in same if line["detector"] == same[0]["detector"]]
        shown = net if net != before else ""
        seeds = sum(len(line["seeds"].split()) for line in first)
        if by_detector["sentinet"]:
            alone = guarded(by_detector["sentinet"])
            yield [shown, "none, `sentinet`", seeds, "", "", "", "", alone]
        else:
            bad = mean(first, "bad_accuracy") if shown else ""
            tuned = mean(first, "repaired_accuracy"), worst(first, "repaired_success")
            guards = guarded(by_detector["hard"]), guarded(by_detector["soft"])
            yield [shown, ORDER[place], seeds, bad, *tuned, *guards]
        before = net


def main():
    """Keeps the runs and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--runs", type=Path, required=True, help="CSV file that keeps the runs")
    arguments = parser.parse_args()
    kept = []
    if arguments.runs.exists():
        with open(arguments.runs, newline="", encoding="utf-8") as file:
            kept = list(csv.DictReader(file))
    paths = [path for folder in arguments.folders for path in folder.glob("runs/*.json")]
    found = [line_of(read_json(path)) for path in paths]
    lines = with_runs(kept, found)
    write_csv(arguments.runs, lines)
    nets = {line["net"] for line in found or lines}
    rows = list(table([line for line in lines if line["net"] in nets]))
    print(tabulate(rows, HEADERS, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    console.run(main)
