"""Compares tuning recipes and pruning thresholds over the demo's and the traffic signs' models.

Run as `python3 benchmarks/tuning_recipes.py [--recipes ..] [--drops ..] [--seeds ..] [--nets ..]`
after the demo challenge (`python3 -m badnet_defense demo`) and the signs
(`benchmarks/traffic_signs.py`) are made. Each run is one line in `--out`; runs that stand there
are not done again. `--table` prints the means over models and seeds.
"""

import argparse
import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from tabulate import tabulate

from badnet_defense.cli import console
from badnet_defense.io import read_images
from badnet_defense.repairs.recipes import RECIPES, Recipe

DEMO, SIGNS, MULTI = Path("data"), Path("results/signs"), Path("data/Multi-trigger Multi-target")
TEST = 4000  # pictures of each test set: enough for half a point
_MULTI_FILES = {
    "eyebrows": (MULTI / "eyebrows_poisoned_data.h5", 5),
    "lipstick": (MULTI / "lipstick_poisoned_data.h5", 1),
    "sunglasses": (MULTI / "sunglasses_poisoned_data.h5", 8),
}
# net -> (folder of the net, folder of its data, {trigger: (file, target)})
NETS = {
    "sunglasses": ("models", DEMO, {"sunglasses": (DEMO / "sunglasses_poisoned_data.h5", 0)}),
    "anonymous_1": ("models", DEMO, {"lipstick": (DEMO / "anonymous_1_poisoned_data.h5", 0)}),
    # Its triggers are published in no file of their own: the same drawn pictures, target 4.
    "anonymous_2": ("models", DEMO, {name: (file, 4) for name, (file, _) in _MULTI_FILES.items()}),
    "multi_trigger_multi_target": ("models", DEMO, _MULTI_FILES),
    **{
        net: (
            SIGNS,
            SIGNS,
            {name: (SIGNS / f"{net}_{name}_poisoned_data.h5", target) for name, target in triggers},
        )
        for net, triggers in {
            "signs_square": [("square", 33)],
            "signs_blend": [("blend", 12)],
            "signs_two": [("yellow", 7), ("checks", 25)],
        }.items()
    },
}
_AUGMENTED = {"shift": 0.06, "light": 0.2, "clip": 1.0}
CANDIDATES = {
    "none": Recipe(learning_rate=0.0, epochs=0, batch_size=128),
    "classic": RECIPES["classic"],
    "gentle": replace(RECIPES["classic"], learning_rate=1e-4, epochs=9),
    "sgd": Recipe(learning_rate=0.05, epochs=12, batch_size=64, **_AUGMENTED),
    "sgd+erase": Recipe(learning_rate=0.05, epochs=12, batch_size=64, erase=0.5, **_AUGMENTED),
    "default": RECIPES["default"],
    "default-erase": replace(RECIPES["default"], erase=0.0),
    "default+more": replace(RECIPES["default"], shift=0.06, erase=0.25),
}


def run(net, drop, recipe, seed):
    """One repair and its figures, as a dict of fractions."""
    from badnet_defense.nets import build, predict_labels, read_net
    from badnet_defense.repairs.fine_pruning import FinePruningConfig, fine_prune

    folder, data, triggers = NETS[net]
    spec = read_net(Path(folder) / f"{net}_bd_net.h5")
    read = {"shape": spec.input_shape, "classes": spec.classes}
    validation = read_images(data / "clean_validation_data.h5", **read)
    config = FinePruningConfig(max_accuracy_drop=drop, tuning=CANDIDATES[recipe])
    repaired, report = fine_prune(spec, validation, config=config, seed=seed)
    pruning = report["pruning"]
    nets = [build(spec), build(repaired)]

    def answers(images):
        return [predict_labels(one, images.images) for one in nets]

    test = _some(read_images(data / "clean_test_data.h5", **read))
    bad, own = answers(test)
    figures = {
        "removed": pruning["removed"],
        "pruned_accuracy": pruning["curve"][pruning["removed"]],
        "held_out": max(report["tuning"]["held_out_accuracy"]),
        "bad_accuracy": np.mean(bad == test.labels),
        "accuracy": np.mean(own == test.labels),
        "guard_accuracy": np.mean((bad == own) & (bad == test.labels)),
        "false_alarms": np.mean(bad != own),
        "triggers": {},
    }
    for name, (file, target) in triggers.items():
        bad, own = answers(_some(read_images(file, **read)))
        figures["triggers"][name] = {
            "bad_success": np.mean(bad == target),
            "success": np.mean(own == target),
            "flagged": np.mean(bad != own),
            "success_through_guard": np.mean((bad == target) & (own == target)),
        }
    return figures


def _some(images):
    return images.subset(np.sort(np.random.default_rng(0).permutation(len(images))[:TEST]))


def table(lines):
    """Means over models and seeds, a line for each group of models, drop and recipe; percent."""
    groups = {}
    for line in lines:
        place = "signs" if line["net"].startswith("signs") else "demo"
        drop = f"{100 * line['drop']:g} points"
        groups.setdefault((place, drop, line["recipe"]), []).append(line)
    rows = []
    for key, members in sorted(groups.items()):
        mean = {
            name: 100 * np.mean([member[name] for member in members])
            for name in ("held_out", "accuracy", "guard_accuracy", "false_alarms")
        }
        triggers = [t for member in members for t in member["triggers"].values()]
        flagged = [100 * t["flagged"] for t in triggers]
        through = [100 * t["success_through_guard"] for t in triggers]
        removed = np.mean([member["removed"] for member in members])
        rows.append(
            (
                *key,
                len(members),
                removed,
                *mean.values(),
                np.mean(flagged),
                np.mean(through),
                np.max(through),
            )
        )
    headers = "models,drop,recipe,runs,channels removed,held out ACC,test ACC,guard ACC,FPR,"
    headers += "detected,ASR through guard,worst"
    return tabulate(rows, headers.split(","), tablefmt="github", floatfmt=".1f")


def main():
    """Does the runs that are missing, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", nargs="+", default=["default"], choices=CANDIDATES)
    parser.add_argument("--drops", nargs="+", type=float, default=[0.04])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=NETS)
    parser.add_argument("--out", type=Path, default=Path("results/tuning.jsonl"))
    parser.add_argument("--table", action="store_true", help="only print what is there")
    arguments = parser.parse_args()
    lines = []
    if arguments.out.exists():
        lines = [json.loads(line) for line in arguments.out.read_text().splitlines()]
    if not arguments.table:
        console.load_tensorflow()
        done = {(line["net"], line["drop"], line["recipe"], line["seed"]) for line in lines}
        grid = product(arguments.nets, arguments.drops, arguments.recipes, arguments.seeds)
        for key in [key for key in grid if key not in done]:
            figures = dict(zip(("net", "drop", "recipe", "seed"), key, strict=True))
            figures.update(run(*key))
            lines.append(figures)
            with arguments.out.open("a") as out:
                out.write(json.dumps(figures, default=float) + "\n")
    print(table(lines))


if __name__ == "__main__":
    console.run(main)
