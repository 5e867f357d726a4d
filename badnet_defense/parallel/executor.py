"""What runs tasks: the one interface, and the plainest executor, which is this very process."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self


class ClosedError(RuntimeError):
    """An executor was stopped while its tasks were running, as on Ctrl-C."""


class Executor(ABC):
    """Runs tasks: calls of a module's function with plain values and arrays.

    Several threads may use one executor. It is a context manager that closes itself.

    Attributes:
        workers: how many tasks run at once.
        gpus: how many GPUs they compute on; None where nobody has looked yet.
        apart: True where workers may see other disks than this process does.
    """

    workers: int = 1
    gpus: int | None = None
    apart: bool = False
    closed: bool = False

    @abstractmethod
    def share(self, value: Any) -> Any:
        """A handle for what many tasks need; the same one for the same object."""

    @abstractmethod
    def release(self, value: Any) -> None:
        """Forgets what was shared, when no task will need it any more."""

    @abstractmethod
    def run(
        self, function: Callable[..., Any], handles: Sequence[Any], tasks: Iterable[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Any]]:
        """Yields `(index, function(*values, *task))` of each task, in the order in which they end.

        Args:
            function: of a module, so that a worker can import it.
            handles: of `share`; the function is given the values behind them.
            tasks: the other arguments, one tuple a task.

        Raises:
            ClosedError: the executor was stopped.
            LostTaskError: a task lost its workers again and again.
            ExecutorError: what runs the tasks is gone.
            Exception: what the function raises.
        """

    def check_open(self) -> None:
        """Raises `ClosedError` once the executor was stopped."""
        if self.closed:
            raise ClosedError("the executor was closed")

    def stop(self) -> None:
        """Lets nothing more run; from any thread, while others wait, who get `ClosedError`."""
        self.closed = True

    def close(self) -> None:
        """Stops, and gives back what it holds, when no thread waits for a task any more."""
        self.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class SerialExecutor(Executor):
    """Runs the tasks in this process, one after the other.

    Example:
        >>> with SerialExecutor() as executor:
        ...     list(executor.run(pow, (executor.share(2),), [(3,), (5,)]))
        [(0, 8), (1, 32)]
    """

    def share(self, value: Any) -> Any:
        """The value itself."""
        return value

    def release(self, value: Any) -> None:
        """Nothing is kept."""

    def run(
        self, function: Callable[..., Any], handles: Sequence[Any], tasks: Iterable[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Any]]:
        """Runs the tasks in their order; see `Executor.run`."""
        for index, task in enumerate(tasks):
            self.check_open()
            yield index, function(*handles, *task)
