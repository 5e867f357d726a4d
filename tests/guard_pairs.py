"""Two small nets that answer most images alike, and their guards' files, rewritten."""

import json
import zipfile

import keras
import numpy as np
from keras import layers
from small_nets import CLASSES, balanced, images, net, residual_net, side_path_net

from badnet_defense.nets import copy_model

PICTURES = images(70).images
INPUTS = PICTURES / np.float32(255)


def nested_net():
    inner = keras.Sequential([keras.Input((12, 10, 3)), layers.Conv2D(4, 3), layers.ReLU()])
    return net([inner, layers.Flatten(), layers.Dense(CLASSES, activation="softmax")])


NETS = {"side_path": side_path_net, "residual": residual_net, "nested": nested_net}


def two_nets(make=side_path_net):
    """A net and one that answers some pictures otherwise."""
    bad = balanced(make(), INPUTS)
    repaired = copy_model(bad)
    rng = np.random.default_rng(7)
    repaired.set_weights([w * (1 + rng.normal(0, 0.15, w.shape)) for w in bad.get_weights()])
    return bad, balanced(repaired, INPUTS)


def rewritten(source, target, change):
    """A copy of a `.keras` file whose configuration went through `change`."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                document = json.loads(content)
                change(document["config"]["layers"])
                content = json.dumps(document)
            new.writestr(name, content)
    return target
