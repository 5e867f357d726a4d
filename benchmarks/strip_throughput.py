"""Times STRIP against a plain loop over images and against the public toolbox.

Run as `python3 benchmarks/strip_throughput.py [MODEL] [CLEAN] [--toolbox-python PYTHON]`: the same
model, images and number of overlays, in turn and three times over in one run. The toolbox (an
optional extra: `pip install adversarial-robustness-toolbox`) runs in a Python of its own, since it
may want an older Keras.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from other_python import figures_of
from tabulate import tabulate

from badnet_defense.cli import console
from badnet_defense.errors import InputError
from badnet_defense.nets.input_range import UNIT

PICTURES, OVERLAYS, ROUNDS, TURNS = 200, 100, 2, 3


def fastest(run):
    """Seconds of the fastest of `ROUNDS` runs, after one that traces."""
    seconds = []
    for _ in range(1 + ROUNDS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def plain(net, pictures, overlays):
    """(n,) mean entropies in bits by a plain loop over images with `model.predict`."""
    entropies = []
    for picture in UNIT.scale(pictures):
        answers = net.predict((picture + UNIT.scale(overlays)) / 2, verbose=0)
        bits = -np.sum(answers * np.log2(np.maximum(answers, 1e-30)), axis=1)
        entropies.append(bits.mean())
    return np.array(entropies)


def toolbox(model, handed):
    """Prints the toolbox's version and seconds, as JSON; runs in the toolbox's own Python."""
    import art
    import tensorflow as tf

    graph = tuple(int(part) for part in art.__version__.split(".")[:2]) < (1, 20)
    if graph:
        tf.compat.v1.disable_eager_execution()
    from art.defences.transformer.poisoning import STRIP
    from art.estimators.classification import KerasClassifier

    from badnet_defense.nets import build, read_net

    net = build(read_net(model))
    net.compile(optimizer="adam", loss="categorical_crossentropy")
    with np.load(handed) as arrays:
        pictures, overlays = (UNIT.scale(arrays[name]) for name in ("pictures", "overlays"))
    strip = STRIP(KerasClassifier(net, clip_values=(0, 1), use_logits=False))
    strip = strip(num_samples=len(overlays))
    # Its own `mitigate` fails on nets with many classes: entropies over the overlays, not over the
    # classes, divide by the sum of a class that no overlay has, which is 0.
    strip.validation_data, strip.entropy_threshold = overlays, 0.0
    seconds = fastest(lambda: strip.predict(pictures))
    answers = strip.predict_fn(pictures).argmax(axis=1)
    about = {"version": art.__version__, "seconds": seconds, "answers": answers.tolist()}
    print(json.dumps(about))


def in_toolbox(python, model, pictures, overlays):
    """What `toolbox` prints when another Python runs it, as a dict."""
    with tempfile.TemporaryDirectory() as folder:
        handed = Path(folder) / "pictures.npz"
        np.savez(handed, pictures=pictures, overlays=overlays)
        return figures_of(python, __file__, model, handed, "--in-toolbox")


def toolbox_seconds(net, python, model, pictures, overlays):
    """Seconds of the toolbox; raises `InputError` where its model answers otherwise than ours."""
    found = in_toolbox(python, model, pictures, overlays)
    if found["answers"] != net.predict(UNIT.scale(pictures), verbose=0).argmax(1).tolist():
        raise InputError("the toolbox's net answers otherwise than the file's.")
    print(f"toolbox {found['version']}: {found['seconds']:.2f} s")
    return found["seconds"]


def main():
    """Prints images per second of each way and the ratio to ours."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="models/sunglasses_bd_net.h5")
    parser.add_argument("clean", nargs="?", default="data/clean_validation_data.h5")
    parser.add_argument("--toolbox-python", metavar="PYTHON")
    parser.add_argument("--in-toolbox", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_toolbox:
        toolbox(arguments.model, arguments.clean)
        return
    console.load_tensorflow()
    from badnet_defense.detectors.strip import Strip
    from badnet_defense.io import read_images
    from badnet_defense.nets import build, read_net

    spec = read_net(arguments.model)
    read = read_images(arguments.clean, shape=spec.input_shape, classes=None, need_labels=False)
    drawn = np.random.default_rng(0).permutation(len(read))[: PICTURES + OVERLAYS]
    overlays, pictures = np.split(read.images[drawn], [OVERLAYS])
    net = build(spec)
    ours = Strip(spec, overlays=overlays)
    apart = np.abs(ours.anomaly_score(pictures) + plain(net, pictures, overlays)).max()
    ways = {
        "this way": lambda: fastest(lambda: ours.anomaly_score(pictures)),
        "a plain loop over pictures": lambda: fastest(lambda: plain(net, pictures, overlays)),
    }
    if arguments.toolbox_python:
        handed = (arguments.toolbox_python, arguments.model, pictures, overlays)
        ways["toolbox"] = lambda: toolbox_seconds(net, *handed)
    found = [{way: run() for way, run in ways.items()} for _ in range(TURNS)]
    seconds = {way: min(turn[way] for turn in found) for way in ways}
    rows = [
        [way, len(pictures) / taken, taken / seconds["this way"]] for way, taken in seconds.items()
    ]
    headers = ["way", "images/s", "time to ours"]
    print(f"{len(pictures)} images, {len(overlays)} overlays, fastest of {TURNS * ROUNDS}")
    print(tabulate(rows, headers, tablefmt="github", floatfmt=(".0f", ".1f", ".2f")))
    print(f"largest difference to the plain loop: {apart:.1e} bits")


if __name__ == "__main__":
    console.run(main) if "--in-toolbox" not in sys.argv else main()
