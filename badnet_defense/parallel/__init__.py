"""Where tasks run: in this process, in processes of this machine, or on a Ray cluster.

A task is a call of a function of a module with plain values and arrays; what all tasks of a job
share is handed to each worker once. `Executor` is the interface.

A worker process computes with one thread, here and on a cluster, so that results are the same
number for number, whoever runs a task. A task whose worker is lost is run again by another.
"""

from badnet_defense.parallel.executor import ClosedError, Executor, SerialExecutor

NAMES = ("local", "ray")
AUTO = "auto"

__all__ = [
    "AUTO",
    "NAMES",
    "ClosedError",
    "Executor",
    "SerialExecutor",
    "executor_for",
    "open_executor",
]


def executor_for(tasks: int, executor: Executor) -> Executor:
    """The executor for so many tasks: one alone runs here, since starting workers takes seconds.

    Args:
        tasks: how many.
        executor: what would run them; kept where it may have a GPU.
    """
    return SerialExecutor() if tasks <= 1 and not executor.gpus else executor


def open_executor(name: str, *, address: str = AUTO, workers: int | None = None) -> Executor:
    """An executor by its name.

    Args:
        name: one of `NAMES`.
        address: of the Ray cluster; "auto" finds the one that this machine belongs to.
        workers: processes of the local executor; default: one for each core or GPU.

    Raises:
        InputError: no such cluster answers, or Ray is not installed.
    """
    if name == "ray":
        from badnet_defense.parallel.ray_cluster import RayExecutor

        return RayExecutor(address)
    from badnet_defense.parallel.local import LocalExecutor

    return LocalExecutor(workers)
