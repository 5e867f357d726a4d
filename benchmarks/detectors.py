"""Every run-time detector on models whose triggers are known: what each catches, and what it costs.

Run as `python3 benchmarks/detectors.py demo`, `.. signs` or `.. real SHARED_DATA`, once the models
are repaired (docs/experiments/detectors.md). Thresholds are set as the `guard` command sets them:
by the clean images that the repair was not tuned on, for the real models by other people's faces.
Clean test images and triggered images are used only for evaluation.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from scan_repairs import demo, real, signs
from tabulate import tabulate

from badnet_defense.cli import console

REPAIRED = {
    "demo": "fine_pruned_models",
    "signs": "results/signs/repaired",
    "real": "results/real_nets/fine-pruning",
}
MOST, MOST_TRIGGERED = 2000, 500
"""Clean and triggered images for evaluation, drawn at random: STRIP runs each a hundred times."""


def judge(name, fitted, judged):
    """A dict of figures of one fitted detector."""
    from badnet_defense.evaluation.metrics import auroc, detection_at

    detector = fitted.detector
    start = time.perf_counter()
    scores = {part: detector.anomaly_score(pictures) for part, (pictures, _) in judged.items()}
    seconds = time.perf_counter() - start
    clean = scores.pop("clean")
    fooled = {name: detector.suspect.predict(judged[name][0]) == judged[name][1] for name in scores}
    return {
        "detector": name,
        "threshold": float(detector.threshold_),
        "cross_fitted": fitted.cross_fitted,
        "promised": detector.expected_.rate,
        "promised_interval": [detector.expected_.low, detector.expected_.high],
        "seen": float(np.mean(clean > detector.threshold_)),
        "pictures_per_second": (len(clean) + sum(map(len, scores.values()))) / seconds,
        "triggers": {
            trigger: {
                "auroc": auroc(clean, found),
                "flagged": float(np.mean(found > detector.threshold_)),
                "fooled_flagged": float(np.mean(found[fooled[trigger]] > detector.threshold_)),
                "detection_1": detection_at(clean, found, 0.01),
                "detection_5": detection_at(clean, found, 0.05),
                "pictures": len(found),
            }
            for trigger, found in scores.items()
        },
    }


def exchanged(detector, pictures):
    """AUROC of clean images against themselves with the suspect model's answer to another class's.

    A stand-in for a trigger that needs no poisoned image: the suspect model answers with a class
    that is not there. By it one measure of soft disagreement is preferred to another.
    """
    from badnet_defense.evaluation.metrics import auroc

    suspect, repaired = (net.predict_proba(pictures) for net in detector.nets.values())
    other = np.roll(suspect, 1, axis=0)
    differ = other.argmax(axis=1) != suspect.argmax(axis=1)
    measure = type(detector).measure
    return auroc(measure(np, suspect, repaired), measure(np, other[differ], repaired[differ]))


def drawn(pictures, most):
    """At most so many of them."""
    order = np.random.default_rng(0).permutation(len(pictures))[:most]
    return pictures[np.sort(order)]


def figures(cases, folder, names, rate):
    """Figures of all detectors on all models."""
    from badnet_defense.detectors.registry import needs_repair
    from badnet_defense.guards.pairing import read_pair
    from badnet_defense.io import read_images
    from badnet_defense.nets import read_classifier
    from badnet_defense.workflows.calibrate import (
        MIN_ABOVE_THRESHOLD,
        fit_detector,
        split_clean,
    )
    from badnet_defense.workflows.cross_fitting import make_fold_repairs

    for net, model, clean_path, judged in cases:
        nets, fold_repairs = (read_classifier(model), None), None
        if any(map(needs_repair, names)):
            pair = read_pair(model, folder=folder)
            nets = pair.suspect, pair.repaired
        images = read_images(clean_path, shape=nets[0].input_shape, classes=None, need_labels=False)
        clean = split_clean(*nets, images)
        judged = {
            part: (drawn(pictures, MOST if part == "clean" else MOST_TRIGGERED), one)
            for part, (pictures, one) in judged.items()
        }
        few = len(clean.unseen) * rate < MIN_ABOVE_THRESHOLD
        if few and any(map(needs_repair, names)):  # once for all
            fold_repairs = make_fold_repairs(*nets, clean)
        for name in names:
            start = time.perf_counter()
            fitted = fit_detector(
                name,
                *nets,
                clean,
                false_positive_rate=rate,
                fold_repairs=fold_repairs,
            )
            seconds = time.perf_counter() - start
            found = judge(name, fitted, judged)
            if name in ("soft", "nll"):
                unseen = clean.data.images[clean.unseen]
                found["exchanged"] = exchanged(fitted.detector, unseen)
            yield {"net": net, "fit_seconds": seconds, **found}


def rows(found):
    """A line for each trigger."""
    low, high = found["promised_interval"]
    start = [
        *(found["net"], found["detector"]),
        f"{100 * found['promised']:.2f} [{100 * low:.2f}, {100 * high:.2f}]",
        f"{100 * found['seen']:.2f}",
        f"{found['pictures_per_second']:,.0f}",
        f"{found['exchanged']:.5f}" if "exchanged" in found else "",
    ]
    for trigger, one in (found["triggers"] or {"none published": None}).items():
        kinds = ("flagged", "fooled_flagged", "detection_1", "detection_5")
        shares = [] if one is None else [one[kind] for kind in kinds]
        area = [] if one is None else [f"{one['auroc']:.4f}"]
        yield [*start, trigger, *area, *(f"{100 * share:.1f}" for share in shares)]
        start = [""] * len(start)


def main():
    """Prints the table and writes the figures."""
    from badnet_defense.cli.options import rate
    from badnet_defense.detectors import DETECTORS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("demo", "signs", "real"))
    parser.add_argument("data", type=Path, nargs="?", help="the shared data, for `real`")
    parser.add_argument("--repaired", help="folder of the repaired models")
    parser.add_argument("--false-positive-rate", type=rate, default=0.01)
    parser.add_argument(
        "--detectors", nargs="+", choices=DETECTORS.names(), default=DETECTORS.names()
    )
    parser.add_argument("--json", type=Path, help="where the figures go")
    arguments = parser.parse_args()
    if (arguments.kind == "real") != (arguments.data is not None):
        parser.error("SHARED_DATA belongs to `real`")
    console.load_tensorflow()
    from badnet_defense.io.records import write_json

    cases = {"demo": demo, "signs": signs, "real": lambda: real(arguments.data)}[arguments.kind]()
    folder = arguments.repaired or REPAIRED[arguments.kind]
    found = list(figures(cases, folder, arguments.detectors, arguments.false_positive_rate))
    write_json(
        arguments.json or f"results/detectors_{arguments.kind}.json", {"schema": 1, "nets": found}
    )
    headers = ["model", "detector", "FPR expected (%)", "FPR measured (%)", "images/s"]
    headers += [
        "AUROC, answers exchanged",
        "trigger",
        "AUROC",
        "flagged (%)",
        "of those that fool (%)",
        "at 1 % (%)",
        "at 5 % (%)",
    ]
    lines = [row for one in found for row in rows(one)]
    print(tabulate(lines, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    console.run(main)
