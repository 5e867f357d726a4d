"""The public toolbox's own Neural Cleanse, timed; `trigger_inversion.py` runs this in its Python.

There Keras may be older than the project's.
"""

import contextlib
import io
import json
import sys
from itertools import cycle

import numpy as np
from trigger_inversion import BATCH, BATCHES, ROUNDS, fastest

from badnet_defense.nets import build, read_net
from badnet_defense.nets.input_range import UNIT


def measure_toolbox(model, handed):
    """Prints the toolbox's version and image gradients a second, a pass for each label, as JSON.

    Args:
        net: the model's file.
        handed: an `.npy` of the images (n, h, w, c), 0-255.
    """
    import art
    import tensorflow as tf

    graph = tuple(int(part) for part in art.__version__.split(".")[:2]) < (1, 20)
    if graph:
        tf.compat.v1.disable_eager_execution()
    import keras
    from art.defences.transformer.poisoning import NeuralCleanse
    from art.estimators.classification import KerasClassifier

    spec = read_net(model)
    net = build(spec)
    net.compile(optimizer="adam", loss="categorical_crossentropy")
    pictures = UNIT.scale(np.load(handed))
    answers = net.predict(pictures[:BATCH], verbose=0).argmax(axis=1)
    classifier = KerasClassifier(net, clip_values=(0, 1), use_logits=False)
    cleanse = NeuralCleanse(classifier)(classifier, steps=1)
    targets = np.eye(spec.classes, dtype=np.float32)
    labels, norms = cycle(range(spec.classes)), []

    def one_pass():
        truth = np.zeros((len(pictures), spec.classes), np.float32)  # asked for, but not used
        with contextlib.redirect_stdout(io.StringIO()):
            mask, _ = cleanse.generate_backdoor(pictures, truth, targets[next(labels)])
        norms.append(float(mask.sum()))

    figures = {
        "version": art.__version__,
        "keras": keras.__version__,
        "mode": "graph" if graph else "eager",
        "speed": BATCH * BATCHES / fastest([one_pass] * (1 + ROUNDS)),
        "moved": len(set(norms)) > 1,
        "answers": answers.tolist(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    measure_toolbox(*sys.argv[1:])
