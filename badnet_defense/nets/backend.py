"""What Keras leaves to its backends: compiled functions and gradients, on TensorFlow and on JAX.

The package runs on Keras' TensorFlow backend. What a scan needs runs on JAX too, which is what many
GPU machines carry (`KERAS_BACKEND=jax`).
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras


def load_quietly() -> None:
    """Imports Keras and TensorFlow without the C++ chatter, which no setting silences."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        import keras  # noqa: F401
        import tensorflow

        tensorflow.get_logger().setLevel(logging.ERROR)
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def on_jax() -> bool:
    """True where Keras runs on JAX."""
    import keras

    return keras.backend.backend() == "jax"


def gpu_count() -> int:
    """GPUs that Keras' backend computes on, and would not share with other processes unasked."""
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # or this process takes them whole
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if on_jax():
        import jax

        return sum(device.platform != "cpu" for device in jax.devices())
    import tensorflow as tf

    return len(tf.config.list_physical_devices("GPU"))


def gpu_memory() -> int:
    """Bytes of memory of the GPU that this process computes on; 0 on a processor."""
    if not gpu_count():
        return 0
    if on_jax():
        import jax

        return int((jax.devices()[0].memory_stats() or {}).get("bytes_limit", 0))
    asked = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        asked += ["--id", visible.split(",")[0].strip()]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        return int(told.split()[0]) << 20
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
        return 0


def forward(model: keras.Model) -> tuple[Callable[[], tuple], Callable[[tuple, Any], Any]]:
    """A net as a function of its weights, which are handed over rather than built in.

    Args:
        model: `keras.Model`.

    Returns:
        (`weights()`, `answers(weights, images)`); on TensorFlow the net holds its weights itself.
    """
    if not on_jax():
        return tuple, lambda _, images: model(images, training=False)

    def weights() -> tuple:
        every = (model.trainable_variables, model.non_trainable_variables)
        return tuple([variable.value for variable in variables] for variables in every)

    return weights, lambda state, images: model.stateless_call(*state, images, training=False)[0]


def compiled(function: Callable, signature: Any = None) -> Callable:
    """`function` of arrays, compiled.

    Args:
        function: of arrays and nested tuples of them.
        signature: for TensorFlow, `(shape, dtype)` for each argument, in the same nesting, with
            None where a length may differ from call to call; JAX compiles for each length anew.
    """
    if on_jax():
        import jax

        return jax.jit(function)
    import tensorflow as tf

    if signature is None:
        return tf.function(function, reduce_retracing=True)
    return tf.function(function, input_signature=_specs(signature))


def _specs(signature: Any) -> Any:
    """`signature` with a `TensorSpec` in the place of each (shape, dtype)."""
    import tensorflow as tf

    if len(signature) == 2 and isinstance(signature[1], str):
        return tf.TensorSpec(*signature)
    parts = [_specs(one) for one in signature]
    return type(signature)(*parts) if hasattr(signature, "_fields") else tuple(parts)


def value_and_gradients(function: Callable, values: tuple) -> tuple:
    """((value, rest), gradients of the value by `values`) of `function(*values)`.

    Args:
        function: gives (value, rest); only the value, one number, is differentiated.
        values: a tuple of arrays.
    """
    if on_jax():
        import jax

        places = tuple(range(len(values)))
        return jax.value_and_grad(function, argnums=places, has_aux=True)(*values)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(values)
        value, rest = function(*values)
    return (value, rest), tape.gradient(value, values)


def padded(batch: np.ndarray, most: int) -> np.ndarray:
    """A batch as the backend likes it: JAX compiles for each length, so lengths are few there.

    Args:
        batch: (n, ..) array, n <= most.
        most: the usual length.

    Returns:
        `batch` itself on TensorFlow; on JAX with its last row repeated up to a power of two or to
        `most`.
    """
    if not on_jax():
        return batch
    length = min(most, 1 << (len(batch) - 1).bit_length())
    return np.concatenate([batch, np.repeat(batch[-1:], length - len(batch), axis=0)])
