"""Tasks in processes of this machine, one for each core or each GPU."""

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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from badnet_defense.io.files import alive, is_own
from badnet_defense.nets.backend import gpu_count
from badnet_defense.parallel import workers as worker
from badnet_defense.parallel.pooled import PooledExecutor, WorkerLostError
from badnet_defense.sandbox.limits import current

PREFIX = "badnet_defense.parallel."
_SAFE_PATH = "PYTHONSAFEPATH"


def usable_cores() -> int:
    """Cores that this process may use, by its affinity and by its control group's quota."""
    affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no control group, or no quota ("max")
        return cores


def devices(gpus: int, workers: int) -> list[str | None]:
    """The workers' GPUs, as `CUDA_VISIBLE_DEVICES` names them; None each where there is none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
    names: list[str | None] = [name.strip() for name in visible.split(",")[:gpus]]
    names = names or [None]
    return [names[number % len(names)] for number in range(workers)]


_starting = threading.Lock()


@contextlib.contextmanager
def _without_working_folder() -> Iterator[None]:
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
    """One worker process, started with its first task and again after it has died."""

    def __init__(self, device: str | None) -> None:
        self._device = device
        self._pool: ProcessPoolExecutor | None = None
        self._lock, self._ended = threading.Lock(), False

    def run(self, *task: Any) -> Any:
        """A task's result; `BrokenProcessPool` where the process died with it."""
        with self._lock:
            if self._ended:
                raise BrokenProcessPool("it was ended")
            with _without_working_folder():
                if self._pool is None:
                    context = multiprocessing.get_context("spawn")
                    begin = (self._device, dict(vars(current())))
                    self._pool = ProcessPoolExecutor(1, context, worker.begin, begin)
                pool = self._pool
                try:
                    future = pool.submit(worker.run, *task)
                except BrokenProcessPool:  # it died while it had nothing to do
                    self._pool = None
                    raise
        try:
            return future.result()
        except BrokenProcessPool:
            with self._lock:
                self._pool = None
            pool.shutdown(wait=False)
            raise

    def end(self) -> None:
        """Ends the process, whatever it is doing, for good."""
        with self._lock:
            self._ended, pool = True, self._pool
        if pool is not None:
            for process in list((pool._processes or {}).values()):
                process.terminate()
            pool.shutdown(wait=True, cancel_futures=True)


class LocalExecutor(PooledExecutor):
    """Processes of this machine; see the package's own description.

    Each has a pool of its own, so that one that dies takes no other's task along.

    Args:
        workers: how many; default: one for each core. On GPUs one for each GPU, at most.
    """

    def __init__(self, workers: int | None = None) -> None:
        super().__init__()
        self.gpus = gpu_count()
        self.workers = min(workers or self.gpus, self.gpus) or workers or usable_cores()
        _clear_away()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_prefix()}{os.getpid()}."))
        self._names, self._lock = itertools.count(), threading.Lock()
        self._processes = [_Process(device) for device in devices(self.gpus, self.workers)]
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        for process in self._processes:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(self.workers)

    def put(self, value: Any) -> str:
        """Pickles the value once; a worker reads it with its first task."""
        path = self._folder / f"{next(self._names)}.pickle"
        path.write_bytes(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
        return str(path)

    def drop(self, handle: str) -> None:
        """Removes the file."""
        Path(handle).unlink(missing_ok=True)

    def submit(
        self, function: Callable[..., Any], handles: Sequence[Any], task: tuple[Any, ...]
    ) -> Future[Any]:
        """Hands a task to the process that is free first."""
        with self._lock:
            self.check_open()
            return self._threads.submit(self._run, handles, function, task)

    def _run(self, *task: Any) -> Any:
        process = self._idle.get()
        try:
            return process.run(*task)
        finally:
            self._idle.put(process)

    def explain(self, error: Exception) -> Exception:
        """A lost worker, or the task's own error."""
        if isinstance(error, (BrokenProcessPool, CancelledError)):
            return WorkerLostError("a process of this machine ended")
        return error

    def stop(self) -> None:
        """Ends the processes, whatever they are doing."""
        with self._lock:
            super().stop()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.end()

    def close(self) -> None:
        """Stops, and removes what was shared."""
        super().close()
        self._threads.shutdown(wait=True)
        shutil.rmtree(self._folder, ignore_errors=True)


def _prefix() -> str:
    """Of the executors' folders of this machine; others may see the same folder."""
    return f"{PREFIX}{re.sub(r'[^A-Za-z0-9-]', '-', socket.gethostname())}."


def _clear_away() -> None:
    """Removes what executors of this machine that were killed have shared."""
    for left in Path(tempfile.gettempdir()).glob(f"{_prefix()}*"):
        number = left.name.removeprefix(_prefix()).split(".")[0]
        with contextlib.suppress(OSError, ValueError):
            if is_own(left.lstat(), stat.S_ISDIR) and not alive(int(number)):
                shutil.rmtree(left, ignore_errors=True)
