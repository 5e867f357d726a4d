"""How long a scan takes: a model fitted on some models, checked on one that was not used.

`python3 benchmarks/cost_model.py --fit MODEL .. --check MODEL [--labels N] [--workers C]`. On one
worker an image's way through a model and back takes `b M + d V` seconds, with M multiplications of
the model for an image and V values in it, which are stamped on the way in and take a gradient on
the way back. The rest is counting: images on each rung, tasks in whole rounds of C workers, the
judging, and a start. The check scans its model and compares.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
from scipy.optimize import nnls
from tabulate import tabulate

from badnet_defense.cli import console

STEPS, PICTURES = 8, 8
JUDGED, TRIES, FORWARD = 500, 1.3, 1 / 3
"""Images that measure a trigger, opacities that are tried on the mean, and a way through the model
alone against one there and back."""
READY = 6.0
"""Seconds until a worker that has started has compiled a model's two steps."""


def size_of(spec):
    """(multiplications, values that come in) of a model for one image."""
    from badnet_defense.nets.net import call_shapes

    shapes = call_shapes(spec)
    times = 0
    for call, shape in zip(spec.calls, shapes, strict=True):
        for weight in spec.layers[call.layer].weights:
            if weight.ndim > 1:  # each place of a result takes the kernel once
                times += weight.size * math.prod(shape[:-1])
    return times, math.prod(spec.input_shape)


def seconds_of_a_picture(job, pictures):
    """A task: seconds of a worker for one image's way through the model and back."""
    from badnet_defense.scan.tasks import invert

    labels = np.arange(min(32, job.net.classes))
    invert(job, pictures, 0, labels, None)
    start = time.perf_counter()
    invert(job, pictures, 0, labels, None)
    return (time.perf_counter() - start) / (len(labels) * STEPS * PICTURES)


def measured(spec, engine):
    """Seconds for one image on one worker."""
    from badnet_defense.scan.schedule import Rung
    from badnet_defense.scan.tasks import Job
    from badnet_defense.scan.trigger_inversion import InversionConfig

    pictures = np.random.default_rng(0).integers(0, 256, (100, *spec.input_shape), dtype=np.uint8)
    job = Job.of(spec, InversionConfig(), (Rung(STEPS, PICTURES),), 0)
    shared = engine.share(job), engine.share(pictures)
    ((_, seconds),) = engine.run(seconds_of_a_picture, shared, [()])
    return seconds


def predicted(spec, each, labels, workers):
    """Seconds of a scan of so many labels on so many workers that have started."""
    from badnet_defense.scan import schedule
    from badnet_defense.scan.halving import MEASURED_AT_ONCE, batch_sizes, split_labels
    from badnet_defense.scan.scan import rungs_of

    rungs = rungs_of("fast", labels)
    counts, at_once = schedule.sizes(rungs, labels), batch_sizes(spec, rungs)
    total = READY
    for rung, count, size in zip(rungs, counts, at_once, strict=True):
        units = split_labels(np.arange(count), size)
        rounds = math.ceil(len(units) / workers)
        total += rounds * len(units[0]) * rung.steps * rung.images * each
    rounds = math.ceil(math.ceil(counts[-1] / MEASURED_AT_ONCE) / workers)
    return total + 2 * rounds * MEASURED_AT_ONCE * JUDGED * TRIES * FORWARD * each


def main():
    """Fits, predicts, scans, and prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fit", nargs="+", required=True)
    parser.add_argument("--check", required=True)
    parser.add_argument("--clean", required=True, help="clean images of the model to check")
    parser.add_argument("--labels", type=int, help="the first so many (default: all)")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    console.load_tensorflow()
    from badnet_defense.io import read_images
    from badnet_defense.nets import read_net
    from badnet_defense.parallel import open_executor
    from badnet_defense.scan.scan import MAX_IMAGES, ScanConfig, scan_images

    specs = {path: read_net(path) for path in [*arguments.fit, arguments.check]}
    sizes = {path: size_of(spec) for path, spec in specs.items()}
    with open_executor("local", workers=1) as engine:
        each = {path: measured(spec, engine) for path, spec in specs.items()}
    factors, _ = nnls(np.array([sizes[path] for path in arguments.fit], float) * 1e-6,
                      np.array([each[path] for path in arguments.fit]))  # fmt: skip
    models = {path: float(np.dot(factors, size)) * 1e-6 for path, size in sizes.items()}
    lines = []
    for path, (times, values) in sizes.items():
        used = "fit" if path in arguments.fit else "check"
        lines.append([Path(path).stem, used, f"{times / 1e6:.2f}", f"{values / 1e3:.2f}",
                      f"{1e6 * each[path]:.0f}", f"{1e6 * models[path]:.0f}"])  # fmt: skip
    headers = ["model", "for", "M (millions)", "V (thousands)", "measured (us an image)", "model"]
    print(tabulate(lines, headers, tablefmt="github", disable_numparse=True))
    print(f"b = {factors[0]:.3e} s for a million M, d = {factors[1]:.3e} s for a million V")

    spec = specs[arguments.check]
    count = arguments.labels or spec.classes
    pictures = read_images(arguments.clean, shape=spec.input_shape).sample(MAX_IMAGES, 0).images
    rows = []
    for workers in sorted({1, arguments.workers}):
        with open_executor("local", workers=workers) as engine:
            list(engine.run(time.sleep, (), [(0,)] * 4 * workers))  # all have started
            start = time.perf_counter()
            scan_images(
                spec, pictures, config=ScanConfig(labels=tuple(range(count))), executor=engine
            )
            took = time.perf_counter() - start
        says = predicted(spec, models[arguments.check], count, workers)
        rows.append([workers, count, f"{took:.0f}", f"{says:.0f}"])
    headers = ["workers", "labels", "a scan took (s)", "the model says"]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    console.run(main)
