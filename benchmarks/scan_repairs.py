"""Repairs scanned models with the triggers that their scans found, and judges both ways.

Run as `python3 benchmarks/scan_repairs.py demo`, `.. signs` or `.. real SHARED_DATA`, after scans
that wrote `results/scan/<kind>_<net>.json` and `.npz` (docs/experiments/scan.md). Only clean
images are used to repair: the demo's and the signs' validation data, and for the real models other
people's faces with the models' own predictions as labels. Clean test images and triggered images
are used only for evaluation.
"""

import argparse
from pathlib import Path

import numpy as np
from real_nets import TARGETS, pictures_by_trigger
from tabulate import tabulate

from badnet_defense.cli import console

FACE, SIGN = (55, 47, 3), (32, 32, 3)
SIGNS = {
    "square": {"square_square": 33},
    "two": {"two_yellow": 7, "two_checks": 25},
}


def demo():
    """(model's name, its file, clean images' file, {name: (images, labels or target)})."""
    from badnet_defense.demo import POISONED_FILES

    test = _read("data/clean_test_data.h5")
    for name, targets in TARGETS.items():
        judged = {"clean": (test.images, test.labels)}
        for file, (trigger, target) in POISONED_FILES.items():
            if targets.get(trigger) == target:
                judged[trigger] = (_read(f"data/{file}").images, target)
        yield name, f"models/{name}_bd_net.h5", "data/clean_validation_data.h5", judged


def signs():
    """The same for the traffic signs' models."""
    folder = Path("results/signs")
    test = _read(folder / "clean_test_data.h5", SIGN)
    for name, triggers in SIGNS.items():
        judged = {"clean": (test.images, test.labels)}
        for trigger, target in triggers.items():
            file = folder / f"signs_{trigger}_poisoned_data.h5"
            judged[trigger] = (_read(file, SIGN).images, target)
        model = folder / f"signs_{name}_bd_net.h5"
        yield name, model, folder / "clean_validation_data.h5", judged


def real(data):
    """The same for the challenge's models, evaluated on the real images in the shared data."""
    pictures = pictures_by_trigger(data / "csaw_pictures", FACE)
    shown, labels = pictures["clean"]
    for name, targets in TARGETS.items():
        judged = {"clean": (shown[labels >= 0], labels[labels >= 0])}
        judged |= {trigger: (pictures[trigger][0], target) for trigger, target in targets.items()}
        yield name, data / f"csaw_nets/{name}_bd_net.h5", data / "faces/public_faces.h5", judged


def _read(path, shape=FACE):
    from badnet_defense.io import read_images

    return read_images(path, shape=shape, classes=None, need_labels=False)


def repairs(kind, name, model, clean):
    """(suspect model, {way: repaired model}, flagged labels) by what its scan found."""
    from badnet_defense.nets import build, read_net
    from badnet_defense.repairs.pseudo_labels import pseudo_labelled
    from badnet_defense.repairs.scan_pruning import prune_by_triggers
    from badnet_defense.repairs.scan_unlearning import unlearn
    from badnet_defense.workflows.scanned import found_triggers

    spec, targets = read_net(model), None
    images = _read(clean, spec.input_shape)
    bad = build(spec)
    if kind == "real":
        images, targets = pseudo_labelled(spec, images)
    triggers = found_triggers(Path(f"results/scan/{kind}_{name}"))
    if not triggers:
        return bad, {}, []
    pruned, report = prune_by_triggers(spec, images, triggers)
    unlearnt, _ = unlearn(spec, images, triggers=triggers, targets=targets)
    ways = {f"prune ({report.removed} channels)": pruned, "unlearn": unlearnt}
    ways = {way: build(net) for way, net in ways.items()}
    return bad, ways, [label for label, *_ in triggers]


def rows(name, bad, ways, flagged, judged):
    """Lines of the table: the suspect model, and each way alone and with the guard."""
    from badnet_defense.evaluation.guard_answers import guard_answers
    from badnet_defense.nets import predict_labels

    before = {part: predict_labels(bad, pictures) for part, (pictures, _) in judged.items()}
    stages = {"bad net": before}
    for way, net in ways.items():
        after = {part: predict_labels(net, pictures) for part, (pictures, _) in judged.items()}
        stages[way] = after
        stages[f"{way}, guard"] = {
            part: guard_answers(before[part], after[part], bad.output_shape[-1]) for part in judged
        }
    for stage, answers in stages.items():
        rates = {part: np.mean(answers[part] == judged[part][1]) for part in judged}
        triggers = ", ".join(f"{t} {100 * r:.1f}" for t, r in rates.items() if t != "clean")
        yield [name, flagged, stage, f"{100 * rates['clean']:.1f}", triggers or "none published"]


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("demo", "signs", "real"))
    parser.add_argument("data", type=Path, nargs="?", help="the shared data, for `real`")
    arguments = parser.parse_args()
    if (arguments.kind == "real") != (arguments.data is not None):
        parser.error("SHARED_DATA belongs to `real`")
    console.load_tensorflow()
    cases = {"demo": demo, "signs": signs, "real": lambda: real(arguments.data)}[arguments.kind]()
    lines = []
    for name, model, clean, judged in cases:
        bad, ways, flagged = repairs(arguments.kind, name, model, clean)
        lines += rows(name, bad, ways, flagged, judged)
    headers = ["model", "flagged", "stage", "clean accuracy (%)", "attack success (%)"]
    print(tabulate(lines, headers, tablefmt="github"))


if __name__ == "__main__":
    console.run(main)
