"""Times own machinery against what a standard library offers.

`python3 benchmarks/simplicity.py reading MODEL DATA IMAGE`: milliseconds of a read in this process,
by a forked reader (the default), and by `multiprocessing`'s forkserver with safetensors.
`python3 benchmarks/simplicity.py executors [--dask]`: two workers, our own processes or Dask's.
Medians of `ROUNDS`.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ["PYTHONPATH"] = f"{ROOT}:{ROOT / 'tests'}"  # of workers, and of the forkserver's preload

ROUNDS, EMPTY, FILLED, SLOW = 5, 1000, 100, 40
SHARED = np.zeros((500, 55, 47, 3), np.uint8)
"""Clean images of a scan."""
PARTS = np.zeros((32, 55, 47, 1), np.float32), np.zeros((32, 55, 47, 3), np.float32)
"""Masks and patterns of one of its tasks, 1.3 MB."""


def milliseconds(call: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """The median of some calls."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return 1e3 * float(np.median(seconds))


def send_net(pipe: Any, path: Path) -> None:
    """What a forkserver's child does: reads a net, and answers in a format of its own."""
    from safetensors.numpy import save

    from badnet_defense.nets.reader import read_net_in_process
    from badnet_defense.sandbox.serialize import serialize_net

    plain, arrays = serialize_net(read_net_in_process(path))
    arrays = {str(number): np.ascontiguousarray(array) for number, array in enumerate(arrays)}
    pipe.send_bytes(save(arrays, {"plain": json.dumps(plain)}))


def by_forkserver(path: Path) -> Any:
    """The net, checked again, by a child of the forkserver, which the first call starts."""
    from safetensors.numpy import load

    from badnet_defense.sandbox.serialize import deserialize_net

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["badnet_defense.sandbox.server", "safetensors.numpy"])
    ours, theirs = context.Pipe(False)
    child = context.Process(target=send_net, args=(theirs, path))
    child.start()
    theirs.close()
    answer = ours.recv_bytes()
    child.join()
    head = json.loads(answer[8 : 8 + int.from_bytes(answer[:8], "little")])
    arrays = load(answer)
    plain = json.loads(head["__metadata__"]["plain"])
    return deserialize_net(plain, [arrays[str(number)] for number in range(len(arrays))])


def reading(model: Path, data: Path, image: Path) -> None:
    """Prints a line for each way."""
    from badnet_defense.io import read_images
    from badnet_defense.nets import read_net
    from badnet_defense.sandbox.limits import set_limits

    shape = read_net(model).input_shape
    for isolate in (False, True):
        set_limits(isolate=isolate)
        figures = [
            milliseconds(lambda: read_net(model)),
            milliseconds(lambda: read_images(data, shape=shape)),
            milliseconds(lambda: read_images(image, shape=shape)),
        ]
        print(f"isolate={isolate}: net, data, image {np.round(figures, 1)} ms", flush=True)
    first = milliseconds(lambda: by_forkserver(model), 1)
    print(f"forkserver: first {first:.0f}, net {milliseconds(lambda: by_forkserver(model)):.1f} ms")


def first_part(shared: np.ndarray, mask: np.ndarray, pattern: np.ndarray) -> tuple[Any, Any]:
    """A task that takes and gives what a scan's takes and gives."""
    return mask, pattern


def busy(seconds: float) -> None:
    """A task that computes for so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


class DaskExecutor:
    """As much of `Executor` as is timed, by Dask's `distributed`."""

    def __init__(self, workers: int) -> None:
        from distributed import Client, LocalCluster

        self.cluster = LocalCluster(workers, threads_per_worker=1, dashboard_address=None)
        self.client = Client(self.cluster)

    def share(self, value: Any) -> Any:
        """Sent to all workers."""
        return self.client.scatter(value, broadcast=True, hash=False)

    def run(self, function: Callable[..., Any], handles: Any, tasks: Any) -> Any:
        """All tasks at once, as Dask wants them."""
        from distributed import as_completed

        futures = [self.client.submit(function, *handles, *one, pure=False) for one in tasks]
        yield from as_completed(futures, with_results=True)

    def close(self) -> None:
        """Ends the workers."""
        self.client.close()
        self.cluster.close()


def executors(dask: bool) -> None:
    """Prints the figures of one executor."""
    import worker_tasks

    from badnet_defense.nets.backend import load_quietly
    from badnet_defense.parallel import open_executor

    begin = time.perf_counter()
    executor = DaskExecutor(2) if dask else open_executor("local", workers=2)

    def seconds(function: Callable[..., Any], handles: Any, tasks: Any) -> float:
        return milliseconds(lambda: list(executor.run(function, handles, tasks))) / 1e3

    for _ in executor.run(load_quietly, (), [()] * 2):
        pass
    print(f"start, with TensorFlow: {time.perf_counter() - begin:.1f} s")
    print(f"empty task: {1e3 / EMPTY * seconds(worker_tasks.process, (), [()] * EMPTY):.2f} ms")
    shared = executor.share(SHARED)
    filled = seconds(first_part, (shared,), [PARTS] * FILLED)
    print(f"1.3 MB there and back: {1e3 / FILLED * filled:.1f} ms")
    print(
        f"{SLOW} tasks of 0.1 s: {seconds(busy, (), [(0.1,)] * SLOW):.2f} s, ideal {SLOW / 20:.1f}"
    )
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        numbers = [(number,) for number in range(8)]
        found = list(executor.run(worker_tasks.lost_once, (executor.share(folder),), numbers))
        print(
            f"8 tasks, one kills its worker: {time.perf_counter() - begin:.2f} s, {len(found)} done"
        )
    executor.close()


def main() -> None:
    """Prints what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["reading", "executors"])
    parser.add_argument("files", nargs="*", type=Path, help="for reading: MODEL DATA IMAGE")
    parser.add_argument("--dask", action="store_true", help="executors: Dask's instead of our own")
    arguments = parser.parse_args()
    if arguments.what == "reading":
        reading(*arguments.files)
    else:
        executors(arguments.dask)


if __name__ == "__main__":
    main()
