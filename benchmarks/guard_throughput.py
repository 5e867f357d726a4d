"""Times the guard against two plain `model.predict` calls and a comparison.

Run as `python3 benchmarks/guard_throughput.py [MODEL] [CLEAN]`; both are measured in one run.
"""

import argparse
import time

import numpy as np

from badnet_defense.cli import console
from badnet_defense.guards.disagreement import build_guard
from badnet_defense.guards.pairing import read_pair
from badnet_defense.io import read_images
from badnet_defense.nets import predict_labels
from badnet_defense.nets.input_range import UNIT


def main():
    """Prints seconds of both ways, their ratio, and whether the answers are equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="models/sunglasses_bd_net.h5")
    parser.add_argument("clean", nargs="?", default="data/clean_validation_data.h5")
    arguments = parser.parse_args()
    console.load_tensorflow()
    pair = read_pair(arguments.model)
    clean = read_images(arguments.clean, shape=pair.suspect.input_shape)
    bad, repaired = pair.suspect.model, pair.repaired.model
    guard = build_guard(pair.suspect, pair.repaired)
    pictures = UNIT.scale(clean.images)
    # Each is traced on one batch before its time is taken.
    predict_labels(guard, clean.images[:600])
    for net in (bad, repaired):
        net.predict(pictures[:64], verbose=0)

    start = time.perf_counter()
    answers = predict_labels(guard, clean.images)
    guard_seconds = time.perf_counter() - start
    start = time.perf_counter()
    own, other = (net.predict(pictures, verbose=0).argmax(axis=1) for net in (bad, repaired))
    plain = np.where(own == other, own, pair.suspect.classes)
    plain_seconds = time.perf_counter() - start
    print(f"images {len(clean)}")
    print(f"two plain predict calls {plain_seconds:7.2f} s")
    print(f"guard                   {guard_seconds:7.2f} s: {guard_seconds / plain_seconds:.2f}")
    print(f"answers equal on every image: {np.array_equal(answers, plain)}")


if __name__ == "__main__":
    console.run(main)
