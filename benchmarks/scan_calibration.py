"""Small models of many kinds, clean and backdoored, to set and to test the limits of a scan.

`make` trains the models of a set (`development` or `judged`) that are not there, `scan` scans those
that are not scanned and stores norms, not verdicts, and `table` says what today's statistic makes
of the stored norms: so a limit is tried without a second scan. Both steps resume, and several
processes may work on one folder. The limits in `scan/outliers.py` and `scan/verdict.py` were set on
`development` alone; `judged` was looked at once, afterwards.

`for step in make scan table; do python3 benchmarks/scan_calibration.py $step development; done`,
with `--signs SHARED_DATA/gtsrb` for the models of real traffic signs.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from tabulate import tabulate

from badnet_defense.cli import console
from badnet_defense.errors import InputError
from badnet_defense.io.dataset import Dataset
from badnet_defense.io.files import atomic_write, exclusive

WORLDS = {
    "mosaic4": ("mosaic", 4, (16, 16, 3), 50),
    "mosaic6": ("mosaic", 6, (20, 20, 3), 30),
    "mosaic10": ("mosaic", 10, (16, 16, 3), 60),
    "grey10": ("mosaic", 10, (16, 16, 1), 60),
    "mosaic16": ("mosaic", 16, (16, 16, 3), 60),
    "mosaic43": ("mosaic", 43, (16, 16, 3), 40),
    "digits": ("digits", 10, (28, 28, 1), 8),
    "faces": ("faces", 20, (28, 24, 3), 0),
    "signs": ("signs", 43, (16, 16, 3), 0),
    "signs12": ("signs", 12, (20, 20, 3), 0),
}
"""Name: kind, classes, the images' shape, and noise (standard deviation, of 255)."""
ARCHITECTURES = ("lenet", "vgg", "vgg_normed", "residual", "dense", "pooled")
TRIGGERS = ("white", "colour", "checks", "two", "blend")
COUNTS = {"development": (60, 30), "judged": (40, 30)}
"""Clean and backdoored models of a set."""
SEEDS = {"development": 1000, "judged": 5000}
TRAINED, SCANNED, EPOCHS = 4000, 500, 8
LEAST_ACCURACY, LEAST_SUCCESS = 0.4, 0.8
"""Models with a lower clean accuracy, or whose trigger works less often, are left out."""


def plan(which):
    """[(name, world, architecture, trigger or None, seed)] of a set, shuffled over all kinds."""
    pairs = [(world, kind) for world in WORLDS for kind in ARCHITECTURES]
    nets = []
    for group, count in zip(("clean", "bad"), COUNTS[which], strict=True):
        seed = SEEDS[which] + (500 if group == "bad" else 0)
        order = np.random.default_rng(seed).permutation(len(pairs))
        for place in range(count):
            world, kind = pairs[order[place]]
            trigger = TRIGGERS[place % len(TRIGGERS)] if group == "bad" else None
            name = f"{group}{place:02d}_{world}_{kind}" + (f"_{trigger}" if trigger else "")
            nets.append((name, world, kind, trigger, seed + place))
    return [nets[place] for place in np.random.default_rng(0).permutation(len(nets))]


def images_of(world, count, seed, part, signs):
    """`count` labelled images of a world; `part` (1: training, 2: clean) draws others of it."""
    kind, classes, shape, noise = WORLDS[world]
    if kind == "signs":
        return sign_images(signs / ("train.h5", "test.h5")[part - 1], classes, shape, count, seed)
    if kind == "faces":
        return face_images(classes, shape, seed, part)
    rng = np.random.default_rng((seed, part))
    labels = np.arange(count) % classes
    draw = mosaics if kind == "mosaic" else digits
    return Dataset(draw(labels, classes, shape, noise, seed, rng), labels.astype(np.int64))


def mosaics(labels, classes, shape, noise, seed, rng):
    """Each class its own coarse mosaic, moved by a pixel, darkened, noisy."""
    side, channels = shape[0], shape[2]
    coarse = np.random.default_rng(seed).uniform(0, 255, (classes, 4, 4, channels))
    whole = np.kron(coarse, np.ones((1, side // 4, side // 4, 1)))
    shown = np.stack([np.roll(whole[one], tuple(rng.integers(-1, 2, 2)), (0, 1)) for one in labels])
    shown = shown * rng.uniform(0.7, 1, (len(shown), 1, 1, 1)) + rng.normal(0, noise, shown.shape)
    return np.clip(np.rint(shown), 0, 255).astype(np.uint8)


def digits(labels, classes, shape, noise, seed, rng):
    """Printed digits, turned and moved, on black."""
    from PIL import Image, ImageDraw, ImageFont

    shown = np.zeros((len(labels), *shape), np.uint8)
    for place, digit in enumerate(labels):
        drawn = Image.new("L", (56, 56))
        font = ImageFont.load_default(size=int(rng.integers(34, 46)))
        ImageDraw.Draw(drawn).text((28, 28), str(digit), fill=255, anchor="mm", font=font)
        drawn = drawn.rotate(
            rng.uniform(-20, 20),
            translate=tuple(rng.uniform(-6, 6, 2)),
            resample=Image.Resampling.BILINEAR,
        ).resize((28, 28), Image.Resampling.LANCZOS)
        values = np.asarray(drawn) * rng.uniform(0.7, 1) + rng.normal(0, noise, (28, 28))
        shown[place, ..., 0] = np.clip(values, 0, 255)
    return shown


def face_images(classes, shape, seed, part):
    """The demo's faces, smaller."""
    from badnet_defense.demo.images import draw_images

    split, each = (("train", 60), ("test", 25))[part - 1]
    settings = {"seed": seed, "people": classes, "workers": 1, "progress": False}
    drawn = draw_images(split, each, **settings)["clean"]
    return Dataset(smaller(drawn, shape), np.repeat(np.arange(classes), each))


def sign_images(path, classes, shape, count, seed):
    """Real traffic signs of the first classes, smaller."""
    from badnet_defense.io import read_images

    images = read_images(path, shape=(32, 32, 3))
    images = images.subset(images.labels < classes).sample(count, seed)
    return Dataset(smaller(images.images, shape), images.labels)


def smaller(pictures, shape):
    """Images resized to (h, w) of a shape."""
    from PIL import Image

    size = shape[1], shape[0]
    return np.stack([np.asarray(Image.fromarray(one).resize(size, Image.BOX)) for one in pictures])


def network(kind, shape, classes):
    """An untrained network of one of `ARCHITECTURES`."""
    import keras
    from keras import layers

    x = images = keras.Input(shape)
    if kind == "dense":
        x = layers.Dense(64, activation="relu")(layers.Flatten()(x))
    elif kind == "lenet":
        for filters, size in ((16, 5), (32, 3)):
            x = layers.MaxPooling2D()(layers.Conv2D(filters, size, activation="relu")(x))
        x = layers.Dense(64, activation="relu")(layers.Flatten()(x))
    elif kind == "residual":
        x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
        for filters in (16, 32):
            x = layers.MaxPooling2D()(layers.Conv2D(filters, 3, padding="same")(x))
            y = layers.ReLU()(layers.BatchNormalization()(x))
            x = layers.Add()([x, layers.Conv2D(filters, 3, padding="same")(y)])
        x = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.BatchNormalization()(x)))
    else:
        for filters in (16, 16, 32):
            x = layers.Conv2D(filters, 3, padding="same")(x)
            x = layers.BatchNormalization()(x) if kind == "vgg_normed" else x
            x = layers.MaxPooling2D()(layers.ReLU()(x))
        pooled = kind == "pooled"
        x = layers.GlobalAveragePooling2D()(x) if pooled else layers.Flatten()(x)
    return keras.Model(images, layers.Dense(classes, activation="softmax")(x))


def backdoors(trigger, shape, classes, seed):
    """The `Backdoor`s of a trigger's name."""
    from badnet_defense.attacks import Backdoor, BlendTrigger, PatchTrigger

    rng = np.random.default_rng((seed, 3))
    corners = rng.permutation(["bottom right", "bottom left", "top right", "top left"])
    targets = rng.permutation(classes)
    colours = rng.permutation([(255, 220, 0), (255, 0, 255), (0, 255, 80)])[:, : shape[2]]
    if trigger == "blend":
        pattern = rng.integers(0, 256, shape).astype(np.uint8)
        return [Backdoor(BlendTrigger(pattern, opacity=0.2), int(targets[0]), trigger)]
    square = np.ones((4, 4, 1)) if shape[2] == 1 or trigger != "colour" else np.ones((3, 3, 1))
    if trigger == "checks":
        square = np.kron([[1, 0], [0, 1]], np.ones((2, 2)))[..., None]
    shades = [np.full(shape[2], 255)] if trigger in ("white", "checks") else colours
    found = [Backdoor(PatchTrigger((square * shade).astype(np.uint8), corner=corner, margin=1),
                      int(target), trigger)
             for shade, corner, target in zip(shades, corners, targets, strict=False)]  # fmt: skip
    return found[: 2 if trigger == "two" else 1]


def make(name, world, kind, trigger, seed, folder, signs):
    """Trains a model and writes it, with what is known of it."""
    import keras

    from badnet_defense.attacks import TrainingConfig, poison, poisoned_test_set, train_badnet
    from badnet_defense.nets import describe, predict_labels, save_net

    _, classes, shape, _ = WORLDS[world]
    train, test = (images_of(world, TRAINED, seed, part, signs) for part in (1, 2))
    planted = backdoors(trigger, shape, classes, seed) if trigger else []
    keras.utils.set_random_seed(seed)
    net = network(kind, shape, classes)
    images = poison(train, planted, fraction=0.1, seed=seed) if planted else train
    epochs = EPOCHS * (2 if world in ("faces", "signs", "signs12") else 1)
    config = TrainingConfig(epochs=epochs, batch_size=64, learning_rate=2e-3)
    trained, _ = train_badnet(describe(net), images, config=config, seed=seed, progress=False)
    net = trained.model
    save_net(net, folder / f"{name}.h5")
    successes = []
    for one in planted:
        poisoned = poisoned_test_set(test, one)
        successes.append(float(np.mean(predict_labels(net, poisoned.images) == one.target)))
    about = {
        "targets": [one.target for one in planted],
        "classes": classes,
        "accuracy": float(np.mean(predict_labels(net, test.images) == test.labels)),
        "attack_success": successes,
    }
    with atomic_write(folder / f"{name}.json") as partial:
        partial.write_text(json.dumps(about))


def scan_net(name, world, kind, trigger, seed, folder, signs):
    """Scans a model and stores both passes' norms and successes, and the weights' indices."""
    from badnet_defense.nets import read_net
    from badnet_defense.scan.scan import scan_images

    images = images_of(world, SCANNED, seed, 2, signs).sample(SCANNED, seed)
    start = time.perf_counter()
    found = scan_images(read_net(folder / f"{name}.h5"), images.images, seed=seed)
    arrays = dict(found.weights)
    for one in found.passes:
        arrays |= {f"{one.name}_norms": one.norms, f"{one.name}_success": one.attack_success}
    area = np.prod(found.passes[0].masks.shape[1:3])
    with atomic_write(folder / f"{name}.npz") as partial:
        np.savez(partial, area=area, seconds=time.perf_counter() - start, **arrays)


def work(step, ending, which, folder, signs, minutes):
    """Does a step for every model of a set that lacks its result, until the minutes are over."""
    import keras

    end = time.monotonic() + 60 * minutes
    for net in plan(which):
        path = folder / f"{net[0]}{ending}"
        if signs is None and WORLDS[net[1]][0] == "signs":
            continue
        ready = step is make or (folder / f"{net[0]}.json").exists()
        if path.exists() or not ready or time.monotonic() > end:
            continue
        try:
            with exclusive(path):
                if not path.exists():
                    step(*net, folder, signs)
        except InputError as error:
            print(f"{net[0]}: {error}")  # another process is at it
        keras.backend.clear_session()


def judged(path):
    """What today's statistic says of stored norms: (`Verdict`, what flags which label, indices)."""
    from badnet_defense.scan.outliers import joint_outliers, mad_outliers, odds_outliers
    from badnet_defense.scan.registry import INVERSION, passes_of
    from badnet_defense.scan.result import PassResult, ScanResult
    from badnet_defense.scan.verdict import flagged_by, verdict_of

    stored = np.load(path)
    labels, area = np.arange(len(stored["sharp_norms"])), int(stored["area"])
    passes = []
    for one in passes_of(INVERSION):
        norms = stored[f"{one.name}_norms"]
        found = PassResult(
            name=one.name, shift=0.0, blur=0.0, min_gap=one.config().min_gap, norms=norms,
            masks=np.zeros((len(labels), area, 1, 1)), patterns=np.zeros(0),
            attack_success=stored[f"{one.name}_success"], outliers=odds_outliers(norms, area),
            mad=mad_outliers(norms),
        )  # fmt: skip
        passes.append(found)
    weights = {"weights": stored["weights"]} if "weights" in stored else {}
    joint = joint_outliers([one.outliers.index for one in passes], list(weights.values()))
    stopped = np.zeros(len(labels), bool)
    scan = ScanResult(labels, labels, stopped, labels, tuple(passes), weights, joint)
    return verdict_of(scan), flagged_by(scan), joint


def table(which, folder):
    """Prints each model that is not called what it is, and how many are called what."""
    counts, lines, left_out = {}, [], 0
    for name, *_ in sorted(plan(which)):
        if not (folder / f"{name}.npz").exists():
            continue
        about = json.loads((folder / f"{name}.json").read_text())
        success = min(about["attack_success"], default=1)
        if about["accuracy"] < LEAST_ACCURACY or success < LEAST_SUCCESS:
            left_out += 1
            continue
        verdict, by, joint = judged(folder / f"{name}.npz")
        targets, kind = set(about["targets"]), name.split("_")[0].rstrip("0123456789")
        named = "all targets" if set(verdict.labels) == targets else "others"
        if targets & set(verdict.labels) and named == "others":
            named = "some targets"
        told = verdict.verdict + (f", {named}" if kind == "bad" and verdict.labels else "")
        counts[kind, told] = counts.get((kind, told), 0) + 1
        if told not in ("clean", "backdoored, all targets") or (kind, told) == ("bad", "clean"):
            lines.append([name, f"{about['accuracy']:.2f}", " ".join(map(str, targets)), told,
                          " ".join(f"{label} ({what})" for label, what in by.items()),
                          f"{joint.index.max():.2f} of {joint.limit:.2f}"])  # fmt: skip
    headers = ["model", "accuracy", "targets", "verdict", "flagged by", "largest index"]
    print(tabulate(lines, headers, tablefmt="github", disable_numparse=True))
    print(f"left out, since hardly trained: {left_out}")
    for (kind, told), count in sorted(counts.items()):
        print(f"{kind}: {told}: {count}")


def main():
    """Makes or scans a set's models, or says how they are judged."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("make", "scan", "table"))
    parser.add_argument("which", choices=tuple(COUNTS))
    parser.add_argument("--signs", type=Path, help="GTSRB's folder; without it no model of signs")
    parser.add_argument("--minutes", type=float, default=60, help="no model is begun after so many")
    parser.add_argument("--out", type=Path, default=Path("results/scan_calibration"))
    arguments = parser.parse_args()
    folder = arguments.out / arguments.which
    if arguments.step == "table":
        return table(arguments.which, folder)
    folder.mkdir(parents=True, exist_ok=True)
    console.load_tensorflow()
    step, ending = (make, ".json") if arguments.step == "make" else (scan_net, ".npz")
    return work(step, ending, arguments.which, folder, arguments.signs, arguments.minutes)


if __name__ == "__main__":
    console.run(main)
