"""Units of work in processes of this machine, one for each core or each GPU."""

import glob
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

from badnet_defense.data.limits import current
from badnet_defense.engine import workers as worker
from badnet_defense.engine.ahead import Ahead, WorkerLostError


def usable_cores():
    """Cores that this process may use, by its affinity and by its control group's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no control group, or no quota ("max")
        return cores or 1


def gpu_count():
    """NVIDIA GPUs of this machine that are not hidden; the driver makes a file for each."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        return len([one for one in hidden.split(",") if one.strip() not in ("", "-1")])
    return len(glob.glob("/dev/nvidia[0-9]*"))


class LocalEngine(Ahead):
    """Processes of this machine; see the package's own description.

    Args:
        workers: how many; default: one for each GPU, or for each core where there is none.
    """

    def __init__(self, workers=None):
        super().__init__()
        self.gpus = gpu_count()
        self.workers = workers or self.gpus or usable_cores()
        self._folder = Path(tempfile.mkdtemp(prefix="badnet_defense."))
        self._names, self._lock = itertools.count(), threading.Lock()
        self._pool = None

    def put(self, value):
        """Pickles the value once; a worker reads it with its first unit."""
        path = self._folder / f"{next(self._names)}.pickle"
        path.write_bytes(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
        return str(path)

    def submit(self, function, handles, unit):
        """Hands a unit to the processes; a pool whose worker has died is made anew."""
        with self._lock:
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
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
            self._pool.shutdown(wait=True, cancel_futures=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _started(self):
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            numbers = context.SimpleQueue()
            for number in range(self.workers):
                numbers.put(number)
            self._pool = ProcessPoolExecutor(
                self.workers, context, worker.begin, (numbers, self.gpus, vars(current()))
            )
        return self._pool
