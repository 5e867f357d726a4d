"""Times trigger inversion against a plain Keras loop and, if one is there, a public toolbox.

Run as `python3 benchmarks/trigger_inversion.py [MODEL] [CLEAN] [--toolbox-python PYTHON]`; all ways
are measured in one run, on the same model and images. PYTHON is one that has the Adversarial
Robustness Toolbox (Nicolae et al., 2018) and can import this project; two that work, on 3.11:

    pip install adversarial-robustness-toolbox==1.20.1 tensorflow-cpu==2.15.1 pillow tabulate
    pip install adversarial-robustness-toolbox==1.19.1 tensorflow-cpu==2.15.1 pillow tabulate

The second one's Neural Cleanse runs as a graph of TensorFlow 1 and is the faster one. With Keras 3
the newer one runs too, but its `reset` zeroes Adam's learning rate there: nothing is inverted.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from other_python import figures_of
from tabulate import tabulate

from badnet_defense.cli import console
from badnet_defense.errors import InputError
from badnet_defense.nets import build, read_net
from badnet_defense.nets.input_range import UNIT

LABELS, PICTURES = 32, 16  # at once in a step, as on the third rung of a fast scan
# Neural Cleanse as its authors published it (github.com/bolunwang/backdoor at 06875b9,
# gtsrb_visualize_example.py): 1000 "steps", each a pass over 1000 pictures in batches of 32, fewer
# if it stops early. The toolbox's default is 1000 such passes too, over all the pictures it is
# given (here as many as the authors took). It can't stop early (1.19, 1.20): that would need a cost
# that rose after 5 passes that met the goal, and those 5 put the cost back where it began.
PASSES, BATCH, BATCHES = 1000, 32, 1000 // 32
MOST = PASSES * BATCHES * BATCH  # picture-gradients a label
SUCCESS, RATE, DECAYS = 0.99, 0.1, (0.5, 0.9)
FIRST_COST, DEARER, PATIENCE, STOP = 1e-3, 2.0, 5, 25
ROUNDS = 3  # of 31 steps each, a label each in the one-label ways; the fastest one counts


def fastest(rounds):
    """Least seconds of the calls, the first of which is not counted."""
    seconds = []
    for call in rounds:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def ours(net, images):
    """Image gradients per second of a scan's step, 32 labels x 16 images, drawn as scans do."""
    from badnet_defense.nets.graph import without_softmax
    from badnet_defense.scan.inversion_passes import SharpConfig
    from badnet_defense.scan.schedule import Rung, pixels
    from badnet_defense.scan.trigger_inversion import InversionConfig, compiled_step, new_triggers

    config, rung = InversionConfig(), Rung(BATCHES, PICTURES, shift=SharpConfig().shift)
    max_offset = pixels(rung.shift, net.input_shape[:2])
    step = compiled_step(without_softmax(net), config, max_offset=max_offset)
    labels = np.arange(min(LABELS, net.classes), dtype=np.int32)
    rng = np.random.default_rng(0)

    def steps():
        triggers = new_triggers(labels, net.input_shape, config)
        for _ in range(rung.steps):
            triggers = step(triggers, labels, *rung.batch(images, rng))
            np.min(triggers.steps_since_improvement)

    return len(labels) * PICTURES * BATCHES / fastest([steps] * (1 + ROUNDS))


def plain_pass(net, pictures, label):
    """Neural Cleanse for one label in plain Keras.

    Returns:
        a function from the cost of a masked pixel to (share of hits, masked pixels), the means over
        a pass over all `pictures`, float32 in [0, 1].
    """
    import keras
    import tensorflow as tf

    rng = np.random.default_rng(label)
    shape = net.input_shape[1:]
    mask, pattern = (
        tf.Variable(np.arctanh(rng.uniform(-0.99, 0.99, size)), dtype=tf.float32)
        for size in ((*shape[:2], 1), shape)
    )
    adam = keras.optimizers.Adam(RATE, *DECAYS)
    adam.build([mask, pattern])
    target = keras.utils.to_categorical([label] * BATCH, net.output_shape[-1])

    @tf.function
    def step(batch, cost):
        with tf.GradientTape() as tape:
            opacity, colours = tf.tanh(mask) / 2 + 0.5, tf.tanh(pattern) / 2 + 0.5
            answers = net((1 - opacity) * batch + opacity * colours, training=False)
            losses = keras.losses.categorical_crossentropy(target, answers)
            norm = tf.reduce_sum(opacity)
            loss = tf.reduce_mean(losses) + cost * norm
        gradients = tape.gradient(loss, [mask, pattern])
        adam.apply_gradients(zip(gradients, [mask, pattern], strict=True))
        return tf.reduce_mean(keras.metrics.categorical_accuracy(target, answers)), norm

    def one_pass(cost):
        order = rng.permutation(len(pictures))[: BATCH * BATCHES].reshape(-1, BATCH)
        results = [step(pictures[rows], tf.constant(cost, tf.float32)) for rows in order]
        return np.mean([[float(one) for one in result] for result in results], axis=0)

    return one_pass


def plain(spec, pictures):
    """Image gradients a second of the plain loop: a pass for each of three labels.

    Each label's step is compiled in a pass that is not counted.
    """
    net, pictures, seconds = build(spec), UNIT.scale(pictures), []
    for label in range(ROUNDS):
        one_pass = plain_pass(net, pictures, label % spec.classes)
        seconds.append(fastest([lambda one=one_pass: one(0.0)] * 2))
    return BATCH * BATCHES / min(seconds)


def passes_until_stop(one_pass):
    """How many passes the authors' schedule takes for a label until it stops early.

    The cost of the mask is nothing until 5 passes running met the goal, then doubles after each 5
    that do and falls to 0.35 of it after each 5 that don't; once it has gone both ways, 25 passes
    without a smaller mask are the end.
    """
    cost, best, waited, streak, last, gone = 0.0, np.inf, 0, 0, None, set()
    for done in range(1, PASSES + 1):
        hits, norm = one_pass(cost)
        met = bool(hits >= SUCCESS)
        if met and norm < best:
            best, waited = norm, 0
        elif best < np.inf:
            waited += 1
        if len(gone) == 2 and waited >= STOP:
            return done
        streak, last = streak + 1 if met == last else 1, met
        if streak == PATIENCE and met and cost == 0:
            cost, streak, gone = FIRST_COST, 1, set()
        elif streak == PATIENCE:
            cost, streak = cost * (DEARER if met else DEARER**-1.5), 0
            gone.add(met)
    return PASSES


def toolbox(python, model, pictures):
    """What `toolbox_speed.py` prints when another Python runs it, as a dict."""
    with tempfile.TemporaryDirectory() as folder:
        handed = Path(folder) / "pictures.npy"
        np.save(handed, pictures)
        return figures_of(python, Path(__file__).with_name("toolbox_speed.py"), model, handed)


def row(way, at_once, speed, gradients, labels):
    """A line of the table; `gradients` are a class's image gradients."""
    return {
        "way": way,
        "pictures at once": at_once,
        "picture-gradients/s": speed,
        "picture-gradients a label": gradients,
        "s a label": gradients / speed,
        "s for all labels": labels * gradients / speed,
    }


def our_rows(spec, speed):
    """Both budgets of a scan at the measured speed."""
    from badnet_defense.scan import schedule
    from badnet_defense.scan.scan import rungs_of

    for budget in schedule.BUDGETS:
        rungs = rungs_of(budget, spec.classes)
        each = schedule.image_gradients(rungs, spec.classes) / spec.classes
        at_once = min(LABELS, spec.classes) * PICTURES
        yield row(f"this way, {budget} scan", at_once, speed, each, spec.classes)


def toolbox_row(found, spec, answers):
    """The line of what `toolbox` found, after a check that it had the same model."""
    way = "toolbox {version}, Keras {keras}, {mode}".format(**found)
    if found["answers"] != answers:
        raise InputError(f"{way}: its net answers otherwise than the file's.")
    if not found["moved"]:
        print(f"{way}: its triggers do not change; only the time is real.", file=sys.stderr)
    return row(way, BATCH, found["speed"], MOST, spec.classes)


def show(rows, as_json, classes):
    """Prints the lines, each with its ratios to the first."""
    first = rows[0]
    for one in rows:
        one["speed to ours"] = one["picture-gradients/s"] / first["picture-gradients/s"]
        one["time to ours"] = one["s a label"] / first["s a label"]
    if as_json:
        print(json.dumps({"classes": classes, "rows": rows}, indent=2))
        return
    formats = ["", "", ",.0f", ",.0f", ",.2f", ",.0f", ".2f", ",.1f"]
    print(tabulate(rows, headers="keys", tablefmt="github", floatfmt=formats))
    print(
        f"\nSeconds for a label and for all {classes} are extrapolated: the picture-gradients of a"
        " way's own schedule\nover its measured speed, without what comes before and after the"
        " inversion. The one-label ways are at\ntheir 1000 passes, of which the plain loop may save"
        " many (--whole) and the toolbox saves none."
    )


def main():
    """Prints a table of all ways: speed, seconds for a label and for all, ratios to ours."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="models/sunglasses_bd_net.h5")
    parser.add_argument("clean", nargs="?", default="data/clean_validation_data.h5")
    parser.add_argument(
        "--toolbox-python",
        action="append",
        default=[],
        metavar="PYTHON",
        help="a Python that has the toolbox; may be given again for another",
    )
    parser.add_argument(
        "--whole",
        type=int,
        default=0,
        metavar="N",
        help="run the plain loop for N labels until it stops early; minutes each",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    arguments = parser.parse_args()
    from badnet_defense.io import read_images
    from badnet_defense.nets import predict_labels

    console.load_tensorflow()
    spec = read_net(arguments.model)
    clean = read_images(arguments.clean, shape=spec.input_shape).images
    rng, count = np.random.default_rng(0), BATCH * BATCHES
    pictures = clean[rng.choice(len(clean), count, len(clean) < count)]

    rows = list(our_rows(spec, ours(spec, pictures)))
    speed = plain(spec, pictures)
    rows.append(row("plain Keras loop, at most", BATCH, speed, MOST, spec.classes))
    if arguments.whole:
        net, scaled = build(spec), UNIT.scale(pictures)
        passes = [
            passes_until_stop(plain_pass(net, scaled, int(label)))
            for label in rng.permutation(spec.classes)[: arguments.whole]
        ]
        way = f"plain Keras loop, early stop (mean of {arguments.whole})"
        rows.append(row(way, BATCH, speed, np.mean(passes) * BATCHES * BATCH, spec.classes))
    answers = predict_labels(build(spec), pictures[:BATCH]).tolist()
    for python in arguments.toolbox_python:
        found = toolbox(python, arguments.model, pictures)
        rows.append(toolbox_row(found, spec, answers))
    if not arguments.toolbox_python:
        print("no --toolbox-python: the toolbox is left out", file=sys.stderr)
    show(rows, arguments.json, spec.classes)


if __name__ == "__main__":
    console.run(main)
