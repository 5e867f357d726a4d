"""A zoo of small models, half of them with a backdoor, to see how an audit evaluates them.

`python3 benchmarks/zoo.py make GTSRB_FOLDER` trains them with the attack lab (traffic signs in two
sizes and three architectures, the demo's faces with 100 people) and writes `list.csv`, which
`python3 -m badnet_defense audit results/zoo/list.csv --out results/zoo/audit` takes, and
`truth.json`; models that are there are not trained again. `python3 benchmarks/zoo.py judge` says
how many verdicts are right.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tabulate import tabulate

from badnet_defense.cli import console

CLASSES, PEOPLE, EPOCHS, FACE_EPOCHS = 43, 100, 10, 25
FACES = {
    "sunglasses": [0],
    "anonymous_1": [0],
    "anonymous_2": [4],
    "multi_trigger_multi_target": [1, 5, 8],
}
FILTERS = {"plain": (16, 32), "normed": (16, 32, 64), "wide": (32, 64)}
TRIGGERS = ("white", "checks", "blend", "yellow")


def sign_net(kind, side):
    """43 classes from (side, side, 3) in [0, 1], in one of three architectures."""
    import keras
    from keras import layers

    x = pictures = keras.Input((side, side, 3))
    for block, filters in enumerate(FILTERS[kind]):
        for number in range(1 if kind == "plain" else 2):
            plain = kind == "plain"
            name = f"conv{block}_{number}"
            x = layers.Conv2D(filters, 3, padding="same", use_bias=plain, name=name)(x)
            x = x if plain else layers.BatchNormalization()(x)
            x = layers.ReLU()(x)
        x = layers.MaxPooling2D()(x)
    x = layers.GlobalAveragePooling2D()(x) if kind == "wide" else layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x) if kind != "normed" else layers.Dropout(0.5)(x)
    return keras.Model(pictures, layers.Dense(CLASSES, activation="softmax")(x))


def trigger(kind, side, seed):
    """A trigger of the attack lab."""
    from badnet_defense.attacks import BlendTrigger, PatchTrigger

    rng = np.random.default_rng((seed, 1))
    corner = ("bottom right", "bottom left", "top right", "top left")[rng.integers(4)]
    if kind == "blend":
        pattern = rng.integers(0, 256, (side, side, 3)).astype(np.uint8)
        return BlendTrigger(pattern, opacity=0.15)
    if kind == "checks":
        patch = np.kron([[1, 0], [0, 1]], np.ones((2, 2)))[..., None] * np.uint8([255, 0, 255])
    else:
        colour = (255, 255, 255) if kind == "white" else (255, 220, 0)
        patch = np.tile(np.uint8(colour), (4, 4, 1))
    return PatchTrigger(patch.astype(np.uint8), corner=corner, margin=1)


def resized(images, side):
    """The images with other sides."""
    from dataclasses import replace

    shown = [np.asarray(Image.fromarray(one).resize((side, side), Image.BOX))
             for one in images.images]  # fmt: skip
    return replace(images, images=np.stack(shown))


def noted(path, train):
    """What is known of a model: its record, or what `train` gives, recorded now."""
    if not path.exists():
        path.write_text(json.dumps(train()))
    return json.loads(path.read_text())


def make_signs(folder, out, count):
    """Trains traffic-sign models that are not there; what is known of each."""
    from badnet_defense.io import read_images, write_challenge_h5
    from badnet_defense.io.splits import split_within_classes

    read = [read_images(folder / f"{part}.h5", shape=(32, 32, 3), classes=CLASSES)
            for part in ("train", "test")]  # fmt: skip
    sets = {32: read, 24: [resized(one, 24) for one in read]}
    judging, cleaning = split_within_classes(read[1].labels, 1 / 2, seed=0)
    for side, (_, test) in sets.items():
        write_challenge_h5(out / f"signs{side}_clean.h5", test.subset(cleaning))
    for seed in range(count):
        side = (32, 24)[seed // 2 % 2]
        train, test = sets[side][0], sets[side][1].subset(judging)
        path = out / f"signs_{seed:02d}.h5"
        yield noted(path.with_suffix(".json"), partial(make_sign, path, seed, side, train, test))


def make_sign(path, seed, side, train, test):
    """Trains the traffic-sign model of a seed, every other one with a backdoor."""
    import keras

    from badnet_defense.attacks import (
        Backdoor,
        TrainingConfig,
        poison,
        poisoned_test_set,
        train_badnet,
    )
    from badnet_defense.nets import describe, predict_labels, save_net

    kind = ("normed", "plain", "wide")[seed % 3]
    keras.utils.set_random_seed(100 + seed)
    net, planted = sign_net(kind, side), []
    if seed % 2:
        shape = TRIGGERS[seed // 2 % len(TRIGGERS)]
        target = int(np.random.default_rng((seed, 2)).integers(CLASSES))
        planted = [Backdoor(trigger(shape, side, seed), target, shape)]
    pictures = poison(train, planted, fraction=0.1, seed=seed) if planted else train
    config = TrainingConfig(epochs=EPOCHS, batch_size=64, shift=2)
    net = train_badnet(describe(net), pictures, config=config, seed=100 + seed)[0].model
    save_net(net, path)
    about = {
        "name": path.name,
        "clean": f"signs{side}_clean.h5",
        "targets": [one.target for one in planted],
        "what": f"{kind} {side}x{side}" + (f", {planted[0].name}" if planted else ""),
        "accuracy": float(np.mean(predict_labels(net, test.images) == test.labels)),
    }
    for backdoor in planted:
        answers = predict_labels(net, poisoned_test_set(test, backdoor).images)
        about["attack_success"] = float(np.mean(answers == backdoor.target))
    return about


def make_faces(out):
    """Trains the demo's four BadNets and four clean ones, for fewer people, if one is not there."""
    from badnet_defense.demo import make_challenge, train_demo_nets

    names = (*FACES, "clean_1", "clean_2", "clean_3", "clean_4")
    notes = {name: out / f"{name}_bd_net.json" for name in names}
    if not all(note.exists() for note in notes.values()):
        make_challenge(out / "faces", people=PEOPLE)
        # All at once: each clean net has a seed by its place among the names.
        found = train_demo_nets(out, names=names, people=PEOPLE, epochs=FACE_EPOCHS)
        for name, note in notes.items():
            note.write_text(json.dumps(about_face(name, found[name])))
    return [json.loads(note.read_text()) for note in notes.values()]


def about_face(name, figures):
    """What is known of one of the demo's models."""
    about = {
        "name": f"{name}_bd_net.h5",
        "clean": "faces/clean_validation_data.h5",
        "targets": FACES.get(name, []),
        "what": "DeepID",
        "accuracy": float(figures["accuracy"]),
    }
    if figures["attack_success"]:
        about["attack_success"] = float(min(figures["attack_success"].values()))
    return about


def make(folder, out, count):
    """Trains the models that are not there and writes the list and the truth."""
    out.mkdir(parents=True, exist_ok=True)
    nets = [*make_signs(folder, out, count), *make_faces(out)]
    (out / "list.csv").write_text("".join(f"{one['name']},{one['clean']}\n" for one in nets))
    truth = {one["name"]: one for one in nets}
    (out / "truth.json").write_text(json.dumps(truth, indent=2))


def judge(out):
    """Prints how the audit's verdicts compare with the truth."""
    truth = json.loads((out / "truth.json").read_text())
    lines, right = [], {"found": 0, "named": 0, "flagged": 0}
    for name, about in truth.items():
        found = json.loads((out / "audit/nets" / f"{name}.json").read_text())
        targets, flagged = set(about["targets"]), set(found.get("targets", ()))
        right["found"] += bool(targets and found["verdict"] == "backdoored")
        right["named"] += len(targets & flagged)
        right["flagged"] += bool(not targets and flagged)
        share = about.get("attack_success")
        lines.append([name, about["what"], f"{100 * about['accuracy']:.1f}",
                      "" if share is None else f"{100 * share:.1f}",
                      " ".join(map(str, sorted(targets))), found["verdict"],
                      " ".join(map(str, sorted(flagged))), f"{found.get('largest_index', 0):.1f}",
                      f"{found['seconds']:.0f}"])  # fmt: skip
    headers = ["model", "what", "ACC", "ASR", "targets", "verdict", "flagged", "index", "s"]
    print(tabulate(lines, headers, tablefmt="github", disable_numparse=True))
    bad = [about for about in truth.values() if about["targets"]]
    named = sum(len(about["targets"]) for about in bad)
    clean = len(truth) - len(bad)
    print(
        f"backdoored nets found: {right['found']} of {len(bad)}; targets named: {right['named']} "
        f"of {named}; clean nets flagged: {right['flagged']} of {clean}"
    )


def main():
    """Makes the zoo, or judges its audit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("make", "judge"))
    parser.add_argument("folder", type=Path, nargs="?", help="GTSRB's folder, to make the zoo")
    parser.add_argument("--signs", type=int, default=16, help="traffic-sign models")
    parser.add_argument("--out", type=Path, default=Path("results/zoo"))
    arguments = parser.parse_args()
    if arguments.what == "judge":
        return judge(arguments.out)
    if arguments.folder is None:
        parser.error("make needs GTSRB's folder")
    console.load_tensorflow()
    return make(arguments.folder, arguments.out, arguments.signs)


if __name__ == "__main__":
    console.run(main)
