"""Tasks on a Ray cluster (Moritz et al., OSDI 2018), which many machines may make up."""

import logging
import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import badnet_defense
from badnet_defense.errors import ExecutorError, InputError
from badnet_defense.parallel.pooled import PooledExecutor, WorkerLostError
from badnet_defense.parallel.workers import ONE_THREAD
from badnet_defense.sandbox.limits import current, set_limits

RETRIES = 5
"""Times that Ray itself runs a task again whose worker or node is lost."""
_SECONDS = 10
PASSED_ON = ("KERAS_BACKEND",)
"""Of this process' environment, what workers are given."""


class RayExecutor(PooledExecutor):
    """The workers of a Ray cluster; see the package's own description.

    The package itself travels with the job, so that all workers run this very code; what it needs
    (requirements.txt) must be installed where they are. Where the cluster has GPUs, each task asks
    for one.

    Args:
        address: of the cluster; "auto" is the one that this machine belongs to, "local" starts one
            on this machine that ends with the executor.

    Raises:
        InputError: Ray is not installed, or no such cluster answers.
    """

    apart = True

    def __init__(self, address: str = "auto") -> None:
        super().__init__()
        self._ray = _ray()
        self._references: dict[Future[Any], Any] = {}
        variables = {**ONE_THREAD, **{k: os.environ[k] for k in PASSED_ON if k in os.environ}}
        try:
            _check_there(address)
            with tempfile.TemporaryDirectory() as nothing:
                self._ray.init(
                    address=address,
                    runtime_env={
                        "py_modules": [str(Path(badnet_defense.__file__).parent)],
                        # Else this process' working folder, and what somebody put there, is the
                        # first place where workers look for modules.
                        "working_dir": nothing,
                        "env_vars": variables,
                    },
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    include_dashboard=False if address == "local" else None,
                )
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(
                f"Ray at {address}: no cluster answers ({error}); start one with "
                "`ray start --head`, or see docs/scaling.md."
            ) from None
        self.gpus = int(self._ray.cluster_resources().get("GPU", 0))
        asked = {"num_cpus": 1, "num_gpus": 1 if self.gpus else 0, "max_retries": RETRIES}
        self._run = self._ray.remote(**asked)(_run)

    @property
    def workers(self) -> int:  # type: ignore[override]
        """GPUs of the cluster as it is now, or cores where it has none."""
        resources = self._ray.cluster_resources()
        return max(1, int(resources.get("GPU" if self.gpus else "CPU", 1)))

    def put(self, value: Any) -> Any:
        """Puts the value into Ray's object store; a node fetches it with its first task."""
        return self._ray.put(value)

    def drop(self, handle: Any) -> None:
        """Ray forgets what nobody holds a reference to."""

    def submit(
        self, function: Callable[..., Any], handles: Sequence[Any], task: tuple[Any, ...]
    ) -> Future[Any]:
        """Hands a task to the cluster."""
        reference = self._run.remote(vars(current()), function, task, *handles)
        future: Future[Any] = reference.future()
        self._references[future] = reference
        future.add_done_callback(self._references.pop)
        return future

    def explain(self, error: Exception) -> Exception:
        """The project's own error for one of Ray's."""
        errors = self._ray.exceptions
        if isinstance(error, errors.RayTaskError):
            return error.cause if isinstance(error.cause, Exception) else error
        if isinstance(
            error, (errors.WorkerCrashedError, errors.NodeDiedError, errors.ObjectLostError)
        ):
            return WorkerLostError(type(error).__name__)
        if isinstance(error, errors.OutOfMemoryError):
            return WorkerLostError("a node ran out of memory")
        if isinstance(error, errors.RayError):
            return ExecutorError(
                f"the Ray cluster failed ({type(error).__name__}: {str(error)[:200]}); look into "
                "its logs."
            )
        return error

    def cancel(self, future: Future[Any]) -> None:
        """Takes a task back that nobody waits for."""
        reference = self._references.get(future)
        if reference is not None:
            self._ray.cancel(reference, force=False)

    def close(self) -> None:
        """Leaves the cluster; one that it started ends."""
        super().close()
        self._ray.shutdown()


def _run(
    limits: dict[str, Any], function: Callable[..., Any], task: tuple[Any, ...], *shared: Any
) -> Any:
    set_limits(**limits)
    return function(*shared, *task)


def _check_there(address: str) -> None:
    """Raises `OSError` where nobody listens at HOST:PORT, which Ray itself finds out in minutes."""
    host, colon, port = address.rpartition(":")
    if colon and "/" not in host and port.isdigit():
        socket.create_connection((host, int(port)), _SECONDS).close()


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise InputError("Ray is not installed; pip install .[ray]") from None
    return ray
