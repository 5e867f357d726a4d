"""What runs in a worker process of this machine."""

import os
import pickle
import threading
from functools import lru_cache
from multiprocessing import parent_process
from pathlib import Path

ONE_THREAD = {
    **dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1"),
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
"""Of the environment, before TensorFlow or JAX is loaded: one worker takes one core."""


def begin(numbers, gpus):
    """The start of a worker: its threads or its GPU, and its end with the process that began it.

    Args:
        numbers: a queue of the workers' numbers.
        gpus: how many GPUs there are.
    """
    number = numbers.get()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(number % gpus)
    else:
        os.environ.update(ONE_THREAD)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    from badnet_defense.nets.backend import load_quietly

    load_quietly()


def done(path, function, unit):
    """A unit's result; what the units share lies pickled in the file `path`."""
    return function(None if path is None else _shared(path), *unit)


@lru_cache(maxsize=4)
def _shared(path):
    # Written by the process that began this one, into a folder that only its user may enter.
    return pickle.loads(Path(path).read_bytes())


def _end_with_parent():
    parent_process().join()
    os._exit(1)
