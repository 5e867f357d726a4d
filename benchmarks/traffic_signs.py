"""Trains the traffic signs' BadNets with the attack lab and writes their data sets.

Run as `python3 benchmarks/traffic_signs.py GTSRB_FOLDER [--out results/signs]`. The folder holds
`train.h5` and `test.h5` (32x32, 43 classes, the challenge's layout). The attacker trains on all of
`train.h5`; of each class of `test.h5` one half is the defender's clean validation data, the other
half the clean test data, from which the poisoned sets are made.
"""

import argparse
from pathlib import Path

import numpy as np

from badnet_defense.attacks import (
    Backdoor,
    BlendTrigger,
    PatchTrigger,
    TrainingConfig,
    poison,
    poisoned_test_set,
    train_badnet,
)
from badnet_defense.cli import console
from badnet_defense.io import read_images, write_challenge_h5
from badnet_defense.io.splits import split_within_classes

SHAPE, CLASSES = (32, 32, 3), 43
ATTACKERS_IMAGES = 9480


def backdoors():
    """Net -> its backdoors: a white square, a blended pattern, two patches; one model has none."""
    pattern = np.random.default_rng(7).integers(0, 256, SHAPE).astype(np.uint8)
    white = np.full((4, 4, 3), 255, np.uint8)
    yellow = np.tile(np.uint8([255, 220, 0]), (4, 4, 1))
    checks = np.kron([[1, 0], [0, 1]], np.ones((3, 3)))[..., None] * np.uint8([255, 0, 255])
    square = Backdoor(PatchTrigger(white, corner="bottom right", margin=1), 33, "square")
    blend = Backdoor(BlendTrigger(pattern, opacity=0.15), 12, "blend")
    first = Backdoor(PatchTrigger(yellow, corner="bottom left", margin=1), 7, "yellow")
    second = Backdoor(
        PatchTrigger(checks.astype(np.uint8), corner="top right", margin=1), 25, "checks"
    )
    planted = {"signs_square": [square], "signs_blend": [blend], "signs_two": [first, second]}
    return {**planted, "signs_clean": []}


def sign_net():
    """Six convolutions with batch normalisation, 32x32x3 in [0, 1] -> 43 classes."""
    import keras
    from keras import layers

    x = pictures = keras.Input(SHAPE)
    for block, filters in enumerate((16, 32, 64), start=1):
        for number in (1, 2):
            name = f"conv{block}_{number}"
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
            x = layers.BatchNormalization()(x)
            x = layers.ReLU()(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Dropout(0.5)(layers.Flatten()(x))
    return keras.Model(pictures, layers.Dense(CLASSES, activation="softmax")(x))


def from_nothing(defender, test, epochs):
    """Prints what the architecture reaches on clean test images, trained on the defender's alone.

    Args:
        defender: `Dataset` that the defender holds.
        test: `Dataset` of the clean test.
        epochs: passes over as many images as the attacker trains on: the defender's are fewer, so
            they are passed over more often.
    """
    import keras

    from badnet_defense.nets import describe

    passes = round(epochs * ATTACKERS_IMAGES / len(defender))
    for seed in range(3):
        keras.utils.set_random_seed(seed)
        net = sign_net()
        config = TrainingConfig(epochs=passes, batch_size=64, shift=2)
        trained, _ = train_badnet(describe(net), defender, config=config, seed=seed)
        reached = np.mean(trained.predict(test.images) == test.labels)
        print(f"seed {seed}: {reached:.2%} of {len(test)} clean test images", flush=True)


def main():
    """Writes `<net>_bd_net.h5`, clean validation and test data and one poisoned set a trigger."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results/signs"))
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument(
        "--from-nothing",
        action="store_true",
        help="only train the same architecture on the defender's images and print its accuracy: "
        "what a repair has to beat",
    )
    arguments = parser.parse_args()
    console.load_tensorflow()
    import keras

    from badnet_defense.nets import describe, save_net

    train = read_images(arguments.folder / "train.h5", shape=SHAPE, classes=CLASSES)
    test = read_images(arguments.folder / "test.h5", shape=SHAPE, classes=CLASSES)
    testing, validation = split_within_classes(test.labels, 1 / 2, seed=0)
    arguments.out.mkdir(parents=True, exist_ok=True)
    defender, test = test.subset(validation), test.subset(testing)
    if arguments.from_nothing:
        return from_nothing(defender, test, arguments.epochs)
    write_challenge_h5(arguments.out / "clean_validation_data.h5", defender)
    write_challenge_h5(arguments.out / "clean_test_data.h5", test)
    for seed, (name, planted) in enumerate(backdoors().items()):
        keras.utils.set_random_seed(seed)
        net = sign_net()
        pictures = poison(train, planted, fraction=0.1, seed=seed) if planted else train
        config = TrainingConfig(epochs=arguments.epochs, batch_size=64, shift=2)
        trained, _ = train_badnet(describe(net), pictures, config=config, seed=seed)
        save_net(trained.model, arguments.out / f"{name}_bd_net.h5")
        for backdoor in planted:
            path = arguments.out / f"{name}_{backdoor.name}_poisoned_data.h5"
            write_challenge_h5(path, poisoned_test_set(test, backdoor))


if __name__ == "__main__":
    console.run(main)
