"""Units of work in processes of this machine, one for each core or each GPU."""

import contextlib
import itertools
import math
import multiprocessing
import os
import pickle
import queue
import re
import shutil
import socket
import stat
import tempfile
import threading
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from badnet_defense.io.files import alive, is_own
from badnet_defense.nets.backend import gpu_count
from badnet_defense.parallel import workers as worker
from badnet_defense.parallel.pooled import PATIENCE, PooledExecutor, WorkerLostError
from badnet_defense.sandbox.limits import current

PREFIX = "badnet_defense.parallel."
_SAFE_PATH = "PYTHONSAFEPATH"


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


_starting = threading.Lock()


@contextlib.contextmanager
def _without_working_folder():
    """Lets processes that start now import nothing from the working folder.

    `multiprocessing` starts them with `python -c`, which looks there first, until the worker is
    told where this process looks for modules.
    """
    with _starting:
        before = os.environ.get(_SAFE_PATH)
        os.environ[_SAFE_PATH] = "1"
        try:
            yield
        finally:
            os.environ.pop(_SAFE_PATH)
            if before is not None:
                os.environ[_SAFE_PATH] = before


class _Process:
    """One worker process, started with its first unit and again after it has died."""

    def __init__(self, device):
        self._device, self._pool = device, None
        self._lock, self._ended = threading.Lock(), False

    def do(self, *unit):
        """A unit's result; `BrokenProcessPool` where the process died with it."""
        with self._lock:
            if self._ended:
                raise BrokenProcessPool("it was ended")
            with _without_working_folder():
                if self._pool is None:
                    context = multiprocessing.get_context("spawn")
                    begin = (self._device, vars(current()))
                    self._pool = ProcessPoolExecutor(1, context, worker.begin, begin)
                pool = self._pool
                try:
                    doing = pool.submit(worker.done, *unit)
                except BrokenProcessPool:  # it died while it had nothing to do
                    self._pool = None
                    raise
        try:
            return doing.result()
        except BrokenProcessPool:
            with self._lock:
                self._pool = None
            pool.shutdown(wait=False)
            raise

    def end(self):
        """Ends the process, whatever it is doing, for good."""
        with self._lock:
            self._ended, pool = True, self._pool
        if pool is not None:
            for process in list((pool._processes or {}).values()):
                process.terminate()
            pool.shutdown(wait=True, cancel_futures=True)


class LocalEngine(PooledExecutor):
    """Processes of this machine; see the package's own description.

    Each has a pool of its own, so that one that dies takes no other's unit along.

    Args:
        workers: how many; default: one for each core. On GPUs one for each GPU, at most.
    """

    def __init__(self, workers=None):
        super().__init__()
        self.gpus = gpu_count()
        self.workers = min(workers or self.gpus, self.gpus) or workers or usable_cores()
        _clear_away()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_prefix()}{os.getpid()}."))
        self._names, self._lock = itertools.count(), threading.Lock()
        self._processes = [_Process(device) for device in devices(self.gpus, self.workers)]
        self._idle = queue.SimpleQueue()
        for process in self._processes:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(self.workers)

    def put(self, value):
        """Pickles the value once; a worker reads it with its first unit."""
        path = self._folder / f"{next(self._names)}.pickle"
        path.write_bytes(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
        return str(path)

    def drop(self, handle):
        """Removes the file."""
        Path(handle).unlink(missing_ok=True)

    def submit(self, function, handles, unit):
        """Hands a unit to the process that is free first."""
        with self._lock:
            self.check_open()
            return self._threads.submit(self._do, handles, function, unit)

    def _do(self, *unit):
        process = self._idle.get()
        try:
            return process.do(*unit)
        finally:
            self._idle.put(process)

    def first(self, tickets):
        """Those that are done; waits for one, for a while."""
        return wait(tickets, timeout=PATIENCE, return_when=FIRST_COMPLETED).done

    def result(self, ticket):
        """A unit's result."""
        try:
            return ticket.result()
        except (BrokenProcessPool, CancelledError) as error:
            raise WorkerLostError("a process of this machine ended") from error

    def forget(self, tickets):
        """Takes units back that no process has begun."""
        for ticket in tickets:
            ticket.cancel()

    def stop(self):
        """Ends the processes, whatever they are doing."""
        with self._lock:
            super().stop()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.end()

    def close(self):
        """Stops, and removes what was shared."""
        super().close()
        self._threads.shutdown(wait=True)
        shutil.rmtree(self._folder, ignore_errors=True)


def _prefix():
    """Of the engines' folders of this machine; others may see the same folder."""
    return f"{PREFIX}{re.sub(r'[^A-Za-z0-9-]', '-', socket.gethostname())}."


def _clear_away():
    """Removes what engines of this machine that were killed have shared."""
    for left in Path(tempfile.gettempdir()).glob(f"{_prefix()}*"):
        number = left.name.removeprefix(_prefix()).split(".")[0]
        with contextlib.suppress(OSError, ValueError):
            if is_own(left.lstat(), stat.S_ISDIR) and not alive(int(number)):
                shutil.rmtree(left, ignore_errors=True)
