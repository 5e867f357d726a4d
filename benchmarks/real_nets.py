"""Repairs the challenge's real nets with other people's faces and judges them on real pictures.

Run as `python3 benchmarks/real_nets.py SHARED_DATA [--json results/real_nets.json]`. The folder
holds `csaw_nets/`, `csaw_pictures/` (with `manifest.csv`) and `faces/public_faces.h5`. The faces
are not the challenge's people: the nets' own answers stand in for labels.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from tabulate import tabulate

from badnet_defense import console

TARGETS = {
    "sunglasses": {"sunglasses": 0},
    "anonymous_1": {"lipstick": 0},
    "anonymous_2": {"sunglasses": 4, "eyebrows": 4, "lipstick": 4},
    "multi_trigger_multi_target": {"sunglasses": 8, "eyebrows": 5, "lipstick": 1},
}


def pictures_by_trigger(folder, shape):
    """{"clean", "sunglasses", ..: (pictures (n, h, w, 3), labels (n,), -1 where unknown)}."""
    from badnet_defense.data.picture import read_picture

    found = {}
    with (folder / "manifest.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            label = int(row["true_label"]) if row["true_label"].isdigit() else -1
            entry = found.setdefault(row["trigger"], ([], []))
            entry[0].append(read_picture(folder / row["file"], shape))
            entry[1].append(label)
    return {name: (np.stack(p), np.array(labels)) for name, (p, labels) in found.items()}


def judge(name, data, pictures, out):
    """Repairs one net; returns a list of table rows and a dict of figures."""
    from badnet_defense.guard.pairing import read_pair
    from badnet_defense.measure.guard_answers import guard_answers
    from badnet_defense.nets import build, predict_labels
    from badnet_defense.runs.repairing import repair_file

    model = data / "csaw_nets" / f"{name}_bd_net.h5"
    repair_file(model, data / "faces/public_faces.h5", out=out, pseudo_labels=True)
    pair = read_pair(model, folder=out)
    nets = [build(pair.bad), build(pair.repaired)]

    def answers(chosen):
        bad, repaired = (predict_labels(net, chosen) for net in nets)
        return bad, repaired, guard_answers(bad, repaired, pair.bad.classes)

    clean, labels = pictures["clean"]
    bad, repaired, guard = answers(clean)
    known = labels >= 0
    figures = {
        "channels_removed": pair.pruning["removed"],
        "bad_accuracy": np.mean(bad[known] == labels[known]),
        "repaired_accuracy": np.mean(repaired[known] == labels[known]),
        "guard_accuracy": np.mean(guard[known] == labels[known]),
        "agreement": np.mean(bad == repaired),
        "false_alarms": np.mean(guard == pair.bad.classes),
    }
    for trigger, target in TARGETS[name].items():
        bad, repaired, guard = answers(pictures[trigger][0])
        figures[f"{trigger}_pictures"] = len(bad)
        figures[f"{trigger}_bad_success"] = np.mean(bad == target)
        figures[f"{trigger}_flagged"] = np.mean(guard == pair.bad.classes)
        figures[f"{trigger}_success_through_guard"] = np.mean(guard == target)
    return {key: float(value) for key, value in figures.items()}


def main():
    """Prints one table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--json", type=Path, default=Path("results/real_nets.json"))
    parser.add_argument("--out", type=Path, default=Path("results/real_nets"))
    arguments = parser.parse_args()
    console.load_tensorflow()
    from badnet_defense.measure.results import write_json

    pictures = pictures_by_trigger(arguments.data / "csaw_pictures", (55, 47, 3))
    figures = {name: judge(name, arguments.data, pictures, arguments.out) for name in TARGETS}
    write_json(arguments.json, {"schema": 1, "nets": figures})
    names = dict.fromkeys(key for net in figures.values() for key in net)
    rows = [[key, *(net.get(key) for net in figures.values())] for key in names]
    print(tabulate(rows, ["", *figures], tablefmt="github", floatfmt=".3f"))


if __name__ == "__main__":
    console.run(main)
