"""Times the pruning curve against the plain loop: zero a channel, predict everything again.

Run as `python3 benchmarks/pruning_sweep.py [MODEL] [CLEAN]`; both are measured in one run.
"""

import argparse
import time

import numpy as np

from badnet_defense.cli import console
from badnet_defense.io import read_images
from badnet_defense.nets import build, read_net
from badnet_defense.nets.input_range import UNIT
from badnet_defense.nets.surgery import zero_channels
from badnet_defense.repairs.front_half import FrontHalf
from badnet_defense.repairs.pruning_curve import pruning_curve


def plain_curve(spec, layer, order, pictures, labels):
    """The curve by `model.predict` with its default batch size, once for each channel."""
    model, accuracies = build(spec), []
    for step in range(len(order) + 1):
        weights = zero_channels(spec, layer, order[:step]).layers[layer].weights
        model.get_layer(layer).set_weights(list(weights))
        answers = model.predict(pictures, verbose=0).argmax(axis=1)
        accuracies.append(np.mean(answers == labels))
    return np.array(accuracies)


def main():
    """Prints seconds of both ways, their ratio, and whether the curves are equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="models/sunglasses_bd_net.h5")
    parser.add_argument("clean", nargs="?", default="data/clean_validation_data.h5")
    parser.add_argument("--layer", default="conv_3")
    arguments = parser.parse_args()
    console.load_tensorflow()  # both ways need it: its three seconds are nobody's
    spec = read_net(arguments.model)
    clean = read_images(arguments.clean, shape=spec.input_shape, classes=spec.classes)

    start = time.perf_counter()
    front = FrontHalf(spec, arguments.layer, clean.images)
    order = np.argsort(front.mean_activation, kind="stable")
    fast = pruning_curve(spec, arguments.layer, order, front, clean.labels)
    fast_seconds = time.perf_counter() - start

    pictures = UNIT.scale(clean.images)
    start = time.perf_counter()
    plain = plain_curve(spec, arguments.layer, order, pictures, clean.labels)
    plain_seconds = time.perf_counter() - start
    print(f"images {len(clean)}, channels {len(order)}, classes {spec.classes}")
    print(f"plain loop  {plain_seconds:8.1f} s")
    print(
        f"this way    {fast_seconds:8.1f} s, ranking included: 1/{plain_seconds / fast_seconds:.1f}"
    )
    print(f"curves equal number by number: {np.array_equal(fast, plain)}")


if __name__ == "__main__":
    console.run(main)
