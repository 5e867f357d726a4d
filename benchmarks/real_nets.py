"""Repairs the challenge's real models with other people's faces and evaluates them on real images.

Run as `python3 benchmarks/real_nets.py SHARED_DATA [--nets ..] [--methods ..]`, after the scans of
the real models where scan-unlearning is among the methods (docs/experiments/real-models.md). The
folder holds `csaw_nets/`, `csaw_pictures/` (with `manifest.csv`) and `faces/public_faces.h5`. The
faces are not the challenge's people: the models' own predictions stand in for labels.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from tabulate import tabulate

from badnet_defense.cli import console

SOFT_RATE = 0.05
"""Asked of the soft guard: the faces' threshold is for faces."""
TARGETS = {
    "sunglasses": {"sunglasses": 0},
    "anonymous_1": {"lipstick": 0},
    "anonymous_2": {"sunglasses": 4, "eyebrows": 4, "lipstick": 4},
    "multi_trigger_multi_target": {"sunglasses": 8, "eyebrows": 5, "lipstick": 1},
}


def pictures_by_trigger(folder, shape):
    """{"clean", "sunglasses", ..: (images (n, h, w, 3), labels (n,), -1 where unknown)}."""
    from badnet_defense.io.image_files import read_image

    found = {}
    with (folder / "manifest.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            label = int(row["true_label"]) if row["true_label"].isdigit() else -1
            entry = found.setdefault(row["trigger"], ([], []))
            entry[0].append(read_image(folder / row["file"], shape))
            entry[1].append(label)
    return {name: (np.stack(p), np.array(labels)) for name, (p, labels) in found.items()}


def repaired_pair(name, model, faces, method, out):
    """The `Pair` after a repair with the faces; `InputError` where the method can't do it."""
    from badnet_defense.errors import InputError
    from badnet_defense.guards.pairing import read_pair
    from badnet_defense.repairs.registry import uses_triggers
    from badnet_defense.workflows.repair import repair_file
    from badnet_defense.workflows.scanned import found_triggers

    triggers = None
    if uses_triggers(method):
        triggers = found_triggers(f"results/scan/real_{name}")
        if not triggers:
            raise InputError("the scan found no trigger to repair")
    how = {"method": method, "pseudo_labels": True, "triggers": triggers}
    repair_file(model, faces, out=out, **how)
    return read_pair(model, folder=out)


def judge(name, data, pictures, method, out):
    """Repairs one model by one method; its figures, with the hard guard and with the soft one."""
    from badnet_defense.evaluation.guard_answers import guard_answers
    from badnet_defense.io import read_images
    from badnet_defense.workflows.calibrate import fit_detector, split_clean

    model, faces = data / "csaw_nets" / f"{name}_bd_net.h5", data / "faces/public_faces.h5"
    pair = repaired_pair(name, model, faces, method, out / method)
    nets = (pair.suspect, pair.repaired)
    images = read_images(faces, shape=pair.suspect.input_shape, classes=None)
    clean = split_clean(*nets, images)
    soft = fit_detector("soft", *nets, clean, false_positive_rate=SOFT_RATE).detector

    def answers(chosen):
        bad, repaired = (net.predict(chosen) for net in nets)
        hard = guard_answers(bad, repaired, pair.suspect.classes)
        return bad, repaired, hard, soft.apply_threshold(bad, soft.anomaly_score(chosen))

    shown, labels = pictures["clean"]
    known = labels >= 0
    stages = dict(zip(("bad", "repaired", "hard", "soft"), answers(shown), strict=True))
    figures = {f"{stage} accuracy": np.mean(given[known] == labels[known])
               for stage, given in stages.items()}  # fmt: skip
    for guard in ("hard", "soft"):
        figures[f"{guard} false alarms"] = np.mean(stages[guard] == pair.suspect.classes)
    for trigger, target in TARGETS[name].items():
        _, repaired, *guards = answers(pictures[trigger][0])
        figures[f"{trigger}: repaired"] = np.mean(repaired == target)
        for guard, given in zip(("hard", "soft"), guards, strict=True):
            figures[f"{trigger}: {guard} flagged"] = np.mean(given == pair.suspect.classes)
            figures[f"{trigger}: through {guard}"] = np.mean(given == target)
    return {key: float(value) for key, value in figures.items()}


def row(net, method, found):
    """A line of the table, percent."""

    def share(key):
        return f"{100 * found[key]:.1f}" if key in found else ""

    def shares(kind):
        return ", ".join(share(f"{trigger}: {kind}") for trigger in TARGETS[net])

    if "refused" in found:
        return [net, method, found["refused"]]
    clean = [share(key) for key in ("bad accuracy", "repaired accuracy", "hard accuracy",
             "hard false alarms", "soft accuracy", "soft false alarms")]  # fmt: skip
    return [net, method, *clean, *map(shares, ("repaired", "hard flagged", "soft flagged"))]


def main():
    """Prints one table and writes the figures."""
    from badnet_defense.repairs.registry import REPAIRS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--nets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--methods", nargs="+", choices=REPAIRS.names(), default=REPAIRS.names())
    parser.add_argument("--json", type=Path, default=Path("results/real_nets.json"))
    parser.add_argument("--out", type=Path, default=Path("results/real_nets"))
    arguments = parser.parse_args()
    console.load_tensorflow()
    from badnet_defense.errors import InputError
    from badnet_defense.io.records import write_json

    pictures = pictures_by_trigger(arguments.data / "csaw_pictures", (55, 47, 3))
    lines, figures = [], {}
    for net in arguments.nets:
        for method in arguments.methods:
            try:
                found = judge(net, arguments.data, pictures, method, arguments.out)
            except InputError as error:
                found = {"refused": str(error)}
            figures.setdefault(net, {})[method] = found
            lines.append(row(net, method, found))
            write_json(arguments.json, {"schema": 1, "nets": figures})
    headers = ["model", "repair", "suspect ACC", "repaired ACC", "hard ACC", "hard FPR",
               "soft ACC", "soft FPR", "triggers: repaired ASR", "hard detected",
               "soft detected"]  # fmt: skip
    print(tabulate(lines, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    console.run(main)
