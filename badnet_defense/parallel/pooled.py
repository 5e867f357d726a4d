"""What executors with workers share: a few tasks ahead of each worker, and lost ones run again."""

import threading
from abc import abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from badnet_defense.errors import LostTaskError
from badnet_defense.parallel.executor import Executor

AHEAD = 2
"""Tasks that are submitted for each worker: one that it runs, one that waits for it."""
MAX_LOSSES = 3
"""Workers that a task may lose before it is given up."""
PATIENCE = 1.0
"""Seconds of waiting for tasks before it is asked again whether the executor was stopped."""


class WorkerLostError(Exception):
    """A worker ended before its task: killed, out of memory, or its machine is gone."""


class PooledExecutor(Executor):
    """An executor that submits tasks a few at a time; a child class says how and where to.

    Such a class has `put` and `drop` for what is shared, `submit`, `cancel`, and `explain`.
    """

    def __init__(self) -> None:
        self._shared: list[tuple[Any, Any]] = []
        self._sharing = threading.Lock()

    @abstractmethod
    def put(self, value: Any) -> Any:
        """A handle of a value, which workers can get by it."""

    @abstractmethod
    def drop(self, handle: Any) -> None:
        """Forgets what is behind a handle of `put`."""

    @abstractmethod
    def submit(
        self, function: Callable[..., Any], handles: Sequence[Any], task: tuple[Any, ...]
    ) -> Future[Any]:
        """Hands a task to the workers."""

    @abstractmethod
    def explain(self, error: Exception) -> Exception:
        """What a future's error means: `WorkerLostError`, `ExecutorError`, or the task's own."""

    def cancel(self, future: Future[Any]) -> None:
        """Takes a task back that nobody waits for any more."""
        future.cancel()

    def share(self, value: Any) -> Any:
        """A handle; an object that is shared already is not sent again."""
        with self._sharing:
            for known, handle in self._shared:
                if known is value:
                    return handle
            handle = self.put(value)
            self._shared.append((value, handle))
            return handle

    def release(self, value: Any) -> None:
        """Forgets an object, if it was shared."""
        with self._sharing:
            handles = [handle for known, handle in self._shared if known is value]
            self._shared = [pair for pair in self._shared if pair[0] is not value]
        for handle in handles:
            self.drop(handle)

    def run(
        self, function: Callable[..., Any], handles: Sequence[Any], tasks: Iterable[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Any]]:
        """Runs the tasks on all workers; see `Executor.run`."""
        waiting = deque(enumerate(tasks))
        running: dict[Future[Any], tuple[int, tuple[Any, ...]]] = {}
        losses: Counter[int] = Counter()
        try:
            while waiting or running:
                self.check_open()
                while waiting and len(running) < AHEAD * self.workers:
                    index, task = waiting.popleft()
                    running[self.submit(function, handles, task)] = index, task
                for future in wait(running, PATIENCE, FIRST_COMPLETED).done:
                    index, task = running.pop(future)
                    try:
                        result = self._result(future)
                    except WorkerLostError as error:
                        self.check_open()
                        waiting.appendleft((index, task))
                        losses[index] += 1
                        if losses[index] >= MAX_LOSSES:
                            raise _lost(error, index) from None
                        continue
                    yield index, result
        finally:
            for future in running:
                self.cancel(future)

    def _result(self, future: Future[Any]) -> Any:
        try:
            return future.result()
        except Exception as error:
            explained = self.explain(error)
            if explained is error:
                raise
            raise explained from error


def _lost(error: WorkerLostError, index: int) -> LostTaskError:
    return LostTaskError(
        f"its workers are lost again and again ({error}); each needs about 1 GB of memory: give "
        "fewer workers, or look into the cluster's logs.",
        index,
    )
