"""Keeps the runs of comparisons in a CSV file, from which docs/make_tables.py makes its tables.

`python3 benchmarks/leaderboard.py --runs docs/data/runs.csv results/compare_demo ..` adds the
finished runs of these folders to those that the file holds. Then run `python3 docs/make_tables.py`.
"""

import argparse
import csv
from pathlib import Path

from badnet_defense.cli import console
from badnet_defense.io.records import read_json
from badnet_defense.report.comparison import worst_trigger, write_csv

NAMES = ("net", "repair", "detector", "seeds")
CLEAN = ("bad_accuracy", "repaired_accuracy", "guard_accuracy", "false_positive_rate")
ATTACK = ("repaired_success", "guard_success", "guard_der")


def line_of(run):
    """A run as a line of the CSV file; fractions in [0, 1], empty where there is no such figure."""
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
    """Model, repair, detector."""
    return line["net"], line["repair"], line["detector"]


def main():
    """Adds the folders' runs to the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--runs", type=Path, required=True, help="CSV file that keeps the runs")
    arguments = parser.parse_args()
    kept = []
    if arguments.runs.exists():
        with open(arguments.runs, newline="", encoding="utf-8") as file:
            kept = list(csv.DictReader(file))
    paths = [path for folder in arguments.folders for path in folder.glob("runs/*.json")]
    lines = with_runs(kept, [line_of(read_json(path)) for path in paths])
    write_csv(arguments.runs, lines)
    print(f"{len(lines) - len(kept)} new runs, {len(lines)} in {arguments.runs}")


if __name__ == "__main__":
    console.run(main)
