"""A small challenge in a folder of its own, and scripts called on it as users call them."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from keras import layers
from PIL import Image
from small_nets import CLASSES, balanced, images, net

from badnet_defense.io import write_challenge_h5
from badnet_defense.nets import save_net

ROOT = Path(__file__).resolve().parents[1]
SPACES = "data/Multi-trigger Multi-target/lipstick poisoned.h5"
PICTURES = [f"picture {number}.png" for number in range(3)]


def small_challenge_net(seed, scale=255.0):
    model = net(
        [
            layers.Conv2D(6, 3, activation="relu", name="conv_1"),
            layers.MaxPooling2D(),
            layers.Conv2D(8, 2, activation="relu", name="conv_3"),
            layers.Flatten(name="rows"),
            layers.Dense(CLASSES, activation="softmax", name="output"),
        ],
        seed=seed,
    )
    return balanced(model, images(80).images / np.float32(scale))


def known(model, count, seed, scale=255.0):
    """Pictures labelled with the net's own answers."""
    found = images(count, seed=seed)
    answers = model(found.images / np.float32(scale), training=False).numpy()
    found.labels[:] = answers.argmax(axis=1)
    return found


def make_project(root):
    """A folder as the project's own, with a small net in `models/` and its data in `data/`."""
    for path in ROOT.glob("*.py"):
        shutil.copy(path, root)
    shutil.copytree(ROOT / "submission", root / "submission")
    model = small_challenge_net(seed=0)
    save_net(model, root / "models/sunglasses_bd_net.h5")
    save_net(small_challenge_net(seed=3), root / "models/anonymous_1_bd_net.h5")
    raw = small_challenge_net(seed=0, scale=1.0)
    save_net(raw, root / "models/raw_bd_net.h5")
    write_challenge_h5(root / "data/clean_validation_data.h5", known(model, 80, seed=1))
    write_challenge_h5(root / "data/clean_test_data.h5", known(model, 40, seed=2))
    write_challenge_h5(root / "data/raw_data.h5", known(raw, 80, seed=1, scale=1.0))
    poisoned = images(30, seed=3)
    poisoned.labels[:] = 0
    write_challenge_h5(root / SPACES, poisoned)
    for number, pixels in enumerate(images(3, seed=4).images):
        Image.fromarray(pixels).save(root / f"picture {number}.png")


def start(folder, *command):
    """Runs a script in a process of its own, in `folder`, with this checkout's package."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**_environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _environment():
    import os

    return {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}


def message(result, code=2):
    """The one line on stderr of a script that refused, after checks of what every refusal keeps."""
    assert result[0] == code, result
    assert result[1] == "" and "Traceback" not in result[2]
    lines = [line for line in result[2].splitlines() if line.strip()]
    assert len(lines) == 1, lines
    return lines[0]
