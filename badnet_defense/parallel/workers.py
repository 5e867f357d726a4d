"""What runs in a worker process of this machine."""

import io
import os
import pickle
import sys
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

from tqdm import tqdm

from badnet_defense.sandbox.limits import set_limits

ONE_THREAD = {
    **dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1"),
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
"""Of the environment, before TensorFlow or JAX is loaded: one worker takes one core."""


class _NoTerminal(io.TextIOWrapper):
    """Standard error for a worker: messages come through, progress bars stay away."""

    def isatty(self) -> bool:
        return False


def begin(device: str | None, limits: dict[str, Any]) -> None:
    """The start of a worker: its threads or its GPU, and its end with the process that began it.

    Args:
        device: its GPU, as `CUDA_VISIBLE_DEVICES` names it, or None.
        limits: of reading files (`sandbox.limits`), those of the process that began it.
    """
    set_limits(**limits)
    sys.stderr = _NoTerminal(sys.stderr.buffer, line_buffering=True)
    tqdm.set_lock(threading.RLock())  # its own would be shared by processes, and left when one ends
    if device is None:
        os.environ.update(ONE_THREAD)
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    threading.Thread(target=_end_with_parent, daemon=True).start()

    from badnet_defense.nets.backend import load_quietly

    load_quietly()


def run(paths: Sequence[str], function: Callable[..., Any], task: tuple[Any, ...]) -> Any:
    """A task's result; what the tasks share lies pickled in the files `paths`."""
    return function(*map(_shared, paths), *task)


@lru_cache(maxsize=8)
def _shared(path: str) -> Any:
    # Written by the process that began this one, into a folder that only its user may enter.
    return pickle.loads(Path(path).read_bytes())


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
