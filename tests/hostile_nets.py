"""Small nets in files, how to spoil them, and what a refusal must look like."""

import json

import h5py
import numpy as np
import pytest
from keras import layers
from small_nets import CLASSES, net

from badnet_defense.errors import UnsafeFileError
from badnet_defense.nets import read_net


def plain_net():
    return net(
        [
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.Flatten(name="rows"),
            layers.Dense(CLASSES, activation="softmax", name="out"),
        ]
    )


def refused(path, *words, error=UnsafeFileError):
    """Asserts that reading is refused in one line with the file's name and all `words`."""
    with pytest.raises(error) as caught:
        read_net(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    for word in words:
        assert word in message, message
    return message


def change_config(path, change):
    """Rewrites `model_config` after `change(layers by name, whole document)`."""
    with h5py.File(path, "r+") as file:
        document = json.loads(file.attrs["model_config"])
        by_name = {one["config"]["name"]: one for one in document["config"]["layers"]}
        change(by_name, document)
        file.attrs["model_config"] = json.dumps(document)


def same_net(one, other):
    """Asserts that two `Net`s are equal; True."""
    assert (one.name, one.calls, one.output) == (other.name, other.calls, other.output)
    assert one.attributes == other.attributes
    assert list(one.layers) == list(other.layers)
    for name, layer in one.layers.items():
        assert (layer.kind, layer.config) == (other.layers[name].kind, other.layers[name].config)
        for array, twin in zip(layer.weights, other.layers[name].weights, strict=True):
            np.testing.assert_array_equal(array, twin)
    return True
