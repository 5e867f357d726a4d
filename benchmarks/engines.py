"""One scan on every engine, side by side: seconds, overhead, equal results, a node lost meanwhile.

`python3 benchmarks/engines.py MODEL CLEAN [--labels 0-127] [--nodes 2]`: the same scan in this
process (its usual threads), by the local engine with as many workers as the cluster has cores, and
on a Ray cluster of several nodes on this machine, once undisturbed and once with a node killed in
the middle. Then thousands of empty tasks, for what one costs.
"""

import argparse
import json
import threading
import time
from pathlib import Path

import numpy as np
from tabulate import tabulate

from badnet_defense.cli import console, options

EMPTY = 2000


def nothing():
    """An empty task."""


def timed_scan(spec, pictures, labels, engine):
    """(seconds of the scan, `Scan`); the workers are started, with TensorFlow, before."""
    from badnet_defense.nets.backend import load_quietly
    from badnet_defense.scan.scan import ScanConfig, scan_images

    for _ in engine.run(load_quietly, (), [()] * engine.workers):
        pass
    start = time.perf_counter()
    found = scan_images(spec, pictures, config=ScanConfig(labels=tuple(labels)), executor=engine)
    return time.perf_counter() - start, found


def seconds_of_a_unit(engine):
    """Seconds that an empty task takes, all workers together."""
    start = time.perf_counter()
    for _ in engine.run(nothing, (), [()] * EMPTY):
        pass
    return (time.perf_counter() - start) / EMPTY


def same(one, other):
    """True where two scans are equal to the last bit."""
    parts = ("norms", "masks", "patterns", "attack_success")
    passes = zip(one.passes, other.passes, strict=True)
    return all(
        np.array_equal(getattr(a, part), getattr(b, part)) for a, b in passes for part in parts
    )


def on_ray(spec, pictures, labels, nodes, lost=None):
    """(seconds, scan, seconds of an empty task) on a cluster; a node is killed after `lost` s."""
    from ray.cluster_utils import Cluster

    import badnet_defense.parallel as engines

    small = {"num_cpus": 1, "object_store_memory": 2**28}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    others = [cluster.add_node(**small) for _ in range(nodes - 1)]
    with engines.open_executor("ray", address=cluster.address) as engine:
        if lost is not None:
            kill = threading.Timer(
                lost, cluster.remove_node, (others[-1],), {"allow_graceful": False}
            )
            kill.start()
        seconds, found = timed_scan(spec, pictures, labels, engine)
        empty = seconds_of_a_unit(engine) if lost is None else None
    cluster.shutdown()
    return seconds, found, empty


def main():
    """Prints one table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("clean")
    parser.add_argument("--labels", type=options.labels)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path("results/engines.json"))
    arguments = parser.parse_args()
    console.load_tensorflow()
    from badnet_defense.io import read_images
    from badnet_defense.io.records import write_json
    from badnet_defense.nets import read_net
    from badnet_defense.parallel import SerialExecutor, open_executor
    from badnet_defense.scan.scan import MAX_IMAGES

    spec = read_net(arguments.model)
    pictures = read_images(arguments.clean, shape=spec.input_shape).sample(MAX_IMAGES, 0).images
    asked = spec, pictures, arguments.labels
    lines, rows = [], {}

    def note(name, seconds, found, empty=None):
        equal = "" if not rows else "yes" if same(first, found) else "no"
        rows[name] = {"seconds": seconds, "empty_unit": empty, "equal": equal}
        ratio = seconds / rows.get("local", rows[name])["seconds"]
        lines.append(
            [
                name,
                f"{seconds:.1f}",
                f"{ratio:.2f}",
                "" if empty is None else f"{1e3 * empty:.1f}",
                equal,
            ]
        )
        print(json.dumps({name: rows[name]}), flush=True)

    with open_executor("local", workers=arguments.nodes) as engine:
        seconds, first = timed_scan(*asked, engine)
        note("local", seconds, first, seconds_of_a_unit(engine))
    note("this process alone", *timed_scan(*asked, SerialExecutor()))
    ray_seconds, found, empty = on_ray(*asked, arguments.nodes)
    note(f"ray, {arguments.nodes} nodes", ray_seconds, found, empty)
    seconds, found, _ = on_ray(*asked, arguments.nodes, lost=ray_seconds / 2)
    note("ray, a node killed halfway", seconds, found)
    write_json(arguments.json, {"schema": 1, "engines": rows})
    headers = ["engine", "seconds", "of local", "an empty task (ms)", "the same result"]
    print(tabulate(lines, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    console.run(main)
