"""The scan's compiled step on Keras' JAX backend gives what it gives on TensorFlow."""

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from small_project import ROOT

STEPS = """
import sys
import keras
import numpy as np
from plain_inversion import LABELS, REACH, SETTINGS, on_their_way, pictures_of
from small_nets import images

from badnet_defense.nets import predict_labels, predict_probabilities, read_net
from badnet_defense.scan.trigger_inversion import compiled_step

net = read_net(sys.argv[1])
step = compiled_step(net, SETTINGS, max_offset=REACH, blur=(1, 1))
offsets = np.array([(-2, 1), (0, 2)], np.int32)
found = step(on_their_way(), LABELS, pictures_of(1), offsets)
names = ("mask", "cost", "goal_reached", "best_norm")
arrays = {name: np.asarray(getattr(found, name)) for name in names}
arrays |= {f"moment{place}": np.asarray(one) for place, one in enumerate(found.moments)}
shown = images(70).images
arrays["labels"] = predict_labels(net.model, shown)
arrays["probabilities"] = predict_probabilities(net.model, shown)
arrays["backend"] = keras.backend.backend()
np.savez(sys.argv[2], **arrays)
"""


@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed")
def test_a_step_on_jax_is_the_step_on_tensorflow(tmp_path):
    from plain_inversion import small_net

    from badnet_defense.nets import save_net

    save_net(small_net(), tmp_path / "net.h5")
    found = {}
    for backend in ("tensorflow", "jax"):
        subprocess.run(
            [sys.executable, "-c", STEPS, tmp_path / "net.h5", tmp_path / f"{backend}.npz"],
            env={
                **os.environ,
                "KERAS_BACKEND": backend,
                "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
            },
            check=True,
        )
        found[backend] = dict(np.load(tmp_path / f"{backend}.npz"))
        assert found[backend].pop("backend") == backend
    for name, expected in found["tensorflow"].items():
        got = found["jax"][name]
        if expected.dtype.kind == "f":
            size = np.abs(expected[np.isfinite(expected)]).max(initial=1e-6)
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * size, err_msg=name)
        else:
            np.testing.assert_array_equal(got, expected, err_msg=name)
