"""Units of work on a Ray cluster (Moritz et al., OSDI 2018), which many machines may make up."""

import logging
import os
import socket
import tempfile
from pathlib import Path

import badnet_defense
from badnet_defense.errors import EngineError, InputError
from badnet_defense.parallel.pooled import PATIENCE, PooledExecutor, WorkerLostError
from badnet_defense.parallel.workers import ONE_THREAD
from badnet_defense.sandbox.limits import current, set_limits

RETRIES = 5
"""Times that Ray itself does a unit again whose worker or node is lost."""
_SECONDS = 10
PASSED_ON = ("KERAS_BACKEND",)
"""Of this process' environment, what workers are given."""


class RayEngine(PooledExecutor):
    """The workers of a Ray cluster; see the package's own description.

    The package itself travels with the job, so that all workers run this very code; what it needs
    (requirements.txt) must be installed where they are. Where the cluster has GPUs, each unit asks
    for one.

    Args:
        address: of the cluster; "auto" is the one that this machine belongs to, "local" starts one
            on this machine that ends with the engine.

    Raises:
        InputError: Ray is not installed, or no such cluster answers.
    """

    apart = True

    def __init__(self, address="auto"):
        super().__init__()
        self._ray = _ray()
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
                f"--ray-address {address}: no cluster answers ({error}); start one with "
                "`ray start --head`, or see docs/scaling.md."
            ) from None
        self.gpus = int(self._ray.cluster_resources().get("GPU", 0))
        asked = {"num_cpus": 1, "num_gpus": 1 if self.gpus else 0, "max_retries": RETRIES}
        self._done = self._ray.remote(**asked)(_done)

    @property
    def workers(self):
        """GPUs of the cluster as it is now, or cores where it has none."""
        resources = self._ray.cluster_resources()
        return max(1, int(resources.get("GPU" if self.gpus else "CPU", 1)))

    def put(self, value):
        """Puts the value into Ray's object store; a node fetches it with its first unit."""
        return self._ray.put(value)

    def drop(self, handle):
        """Ray forgets what nobody holds a reference to."""

    def submit(self, function, handles, unit):
        """Hands a unit to the cluster."""
        return self._done.remote(vars(current()), function, unit, *handles)

    def first(self, tickets):
        """Those that are done; waits for one, for a while."""
        return self._ray.wait(tickets, num_returns=1, timeout=PATIENCE, fetch_local=False)[0]

    def result(self, ticket):
        """A unit's result."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(ticket)
        except errors.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from None
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.ObjectLostError) as error:
            raise WorkerLostError(type(error).__name__) from error
        except errors.OutOfMemoryError as error:
            raise WorkerLostError("a node ran out of memory") from error
        except errors.RayError as error:
            raise EngineError(
                f"the Ray cluster failed ({type(error).__name__}: {str(error)[:200]}); look into "
                "its logs."
            ) from error

    def forget(self, tickets):
        """Takes back units that nobody waits for."""
        for ticket in tickets:
            self._ray.cancel(ticket, force=False)

    def close(self):
        """Leaves the cluster; one that it started ends."""
        super().close()
        self._ray.shutdown()


def _done(limits, function, unit, *shared):
    set_limits(**limits)
    return function(*shared, *unit)


def _check_there(address):
    """Raises `OSError` where nobody listens at HOST:PORT, which Ray itself finds out in minutes."""
    host, colon, port = address.rpartition(":")
    if colon and "/" not in host and port.isdigit():
        socket.create_connection((host, int(port)), _SECONDS).close()


def _ray():
    try:
        import ray
    except ImportError:
        raise InputError("--engine ray: Ray is not installed; pip install .[ray]") from None
    return ray
