"""Units of work in processes of this machine, one for each core or each GPU."""

import contextlib
import itertools
import math
import multiprocessing
import os
import pickle
import shutil
import tempfile
import threading
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from badnet_defense.data.files import alive
from badnet_defense.data.limits import current
from badnet_defense.engine import workers as worker
from badnet_defense.engine.ahead import Ahead, WorkerLostError
from badnet_defense.nets.backend import gpu_count

PREFIX = "badnet_defense.engine."


def usable_cores():
    """Cores that this process may use, by its affinity and by its control group's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no control group, or no quota ("max")
        return cores or 1


def devices(gpus, workers):
    """The workers' GPUs, as `CUDA_VISIBLE_DEVICES` names them; None each where there is none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
    names = [name.strip() for name in visible.split(",")][:gpus] or [None]
    return [names[number % len(names)] for number in range(workers)]


class LocalEngine(Ahead):
    """Processes of this machine; see the package's own description.

    Args:
        workers: how many; default: one for each GPU, or for each core where there is none.
    """

    def __init__(self, workers=None):
        super().__init__()
        self.gpus = gpu_count()
        self.workers = workers or self.gpus or usable_cores()
        _clear_away()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}."))
        self._names, self._lock = itertools.count(), threading.Lock()
        self._pool = None

    def put(self, value):
        """Pickles the value once; a worker reads it with its first unit."""
        path = self._folder / f"{next(self._names)}.pickle"
        path.write_bytes(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
        return str(path)

    def drop(self, handle):
        """Removes the file."""
        Path(handle).unlink(missing_ok=True)

    def submit(self, function, handles, unit):
        """Hands a unit to the processes; a pool whose worker has died is made anew."""
        with self._lock:
            self.check_open()
            try:
                return self._started().submit(worker.done, handles, function, unit)
            except BrokenProcessPool:
                self._pool.shutdown(wait=False)
                self._pool = None
                return self._started().submit(worker.done, handles, function, unit)

    def first(self, tickets):
        """Those that are done; waits for one."""
        return wait(tickets, return_when=FIRST_COMPLETED).done

    def result(self, ticket):
        """A unit's result."""
        try:
            return ticket.result()
        except BrokenProcessPool as error:
            raise WorkerLostError("a process of this machine ended") from error

    def forget(self, tickets):
        """Takes units back that no process has begun."""
        for ticket in tickets:
            ticket.cancel()

    def close(self):
        """Ends the processes, whatever they are doing, and removes what they shared."""
        super().close()
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            for process in list((pool._processes or {}).values()):
                process.terminate()
            pool.shutdown(wait=True, cancel_futures=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _started(self):
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            queue = context.SimpleQueue()
            for device in devices(self.gpus, self.workers):
                queue.put(device)
            self._pool = ProcessPoolExecutor(
                self.workers, context, worker.begin, (queue, vars(current()))
            )
        return self._pool


def _clear_away():
    """Removes what engines that were killed have shared."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        number = left.name.removeprefix(PREFIX).split(".")[0]
        with contextlib.suppress(OSError, ValueError):
            if not alive(int(number)):
                shutil.rmtree(left, ignore_errors=True)
