"""From a labelled data set to a poisoned training set, a BadNet and its poisoned test sets."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from badnet_defense.attacks.poison import Backdoor, poison, poisoned_test_set
from badnet_defense.attacks.registry import ATTACKS
from badnet_defense.attacks.training import TrainingConfig, train_badnet
from badnet_defense.errors import InputError
from badnet_defense.evaluation.metrics import accuracy, attack_success, wilson_interval
from badnet_defense.io import Dataset, read_images, write_challenge_h5
from badnet_defense.io.files import all_or_none, check_writable
from badnet_defense.io.records import versions, write_json
from badnet_defense.io.splits import split_within_classes
from badnet_defense.io.trigger_labels import write_trigger_labels
from badnet_defense.nets import build, describe, save_net
from badnet_defense.nets.deepid import INPUT_SHAPE, deep_id_net
from badnet_defense.nets.input_range import UNIT, InputRange
from badnet_defense.nets.layers import SCHEMAS
from badnet_defense.nets.net import Call, LayerSpec, Net
from badnet_defense.nets.outputs import read_classifier

ARCHITECTURES = {
    "deep-id": "the challenge's face recogniser, four convolutions",
    "small-cnn": "three convolutions; trains in minutes without a GPU",
}
"""{name: what it is}; any other name is the path of a net whose layers are taken."""
SMALL_SHAPE = (32, 32, 3)
"""Size at which small-cnn reads the images of a folder."""
DEFAULT_TRAINING = TrainingConfig()
HELD_OUT = 0.2
"""Without test images, this fraction of each class is held out of the training."""


@dataclass(frozen=True, kw_only=True)
class AttackConfig:
    """An attack on a training set.

    Args:
        triggers: specifications as `parse_trigger` reads them.
        targets: the attacker's class of each trigger, or one for all.
        fraction: poisoned images, as a fraction of the clean ones, in (0, 1].
        architecture: a key of `ARCHITECTURES`, or the path of a net whose layers are taken, with
            new weights.
        training: how the net is trained.
        input_range: the net's range.
        seed: random seed.
    """

    triggers: tuple[str, ...] = ("patch",)
    targets: tuple[int, ...] = (0,)
    fraction: float = 0.1
    architecture: str = "small-cnn"
    training: TrainingConfig = DEFAULT_TRAINING
    input_range: InputRange = UNIT
    seed: int = 0


def parse_trigger(text: str) -> tuple[str, Any]:
    """(name of an attack, its config) of a specification `NAME` or `NAME:SETTING=VALUE,..`.

    The parts of a colour are joined by `/`.

    Raises:
        InputError: an unknown attack or setting, or a value of another kind.

    Examples:
        >>> name, config = parse_trigger("patch:size=6,corner=top left,colour=255/255/0")
        >>> name, config.size, config.corner, config.colour
        ('patch', 6, 'top left', (255, 255, 0))
    """
    name, _, rest = text.partition(":")
    method, given = ATTACKS[name], {}
    defaults = {field.name: field.default for field in fields(method.config)}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"trigger {text!r}: got {part!r}, expected SETTING=VALUE.")
        given[key.strip()] = _value(value.strip(), defaults.get(key.strip()), text)
    return name, method.make_config(given)


def _value(text: str, default: Any, trigger: str) -> Any:
    """A setting's value, of the kind of its default."""
    try:
        if isinstance(default, tuple):
            return tuple(type(default[0])(part) for part in text.split("/"))
        return text if default is None else type(default)(text)
    except ValueError:
        kind = "numbers joined by /" if isinstance(default, tuple) else type(default).__name__
        raise InputError(f"trigger {trigger!r}: got {text!r}, expected {kind}.") from None


def attack_files(
    path: str | os.PathLike[str],
    *,
    name: str,
    data_folder: str | os.PathLike[str],
    model_folder: str | os.PathLike[str],
    config: AttackConfig,
    test: str | os.PathLike[str] | None = None,
    tell: Callable[[dict[str, Any]], object] | None = None,
) -> dict[str, Any]:
    """Poisons a data set, trains a BadNet on it, and writes its poisoned test sets.

    Args:
        path: labelled clean images, which the attacker trains with.
        name: of the attack, for the files' names.
        data_folder: gets `<name>_poisoned_train.h5` with `<name>_trigger_labels.npy` (True for each
            poisoned image), `<name>_clean_test.h5`, for each trigger
            `<name>_<trigger>_poisoned_data.h5`, and `<name>_attack.json`.
        model_folder: gets `<name>_bd_net.h5`.
        config: triggers, targets, architecture and training.
        test: labelled clean images to measure with; None: `HELD_OUT` of `path`.
        tell: called with the result before the first file is written.

    Returns:
        The result, as it stands in the JSON file: clean accuracy and, for each trigger, the attack
        success rate.

    Raises:
        InputError: images or settings that cannot be used, or files that cannot be written.
    """
    start = time.perf_counter()
    base = Path(data_folder) / name
    model = Path(model_folder) / f"{name}_bd_net.h5"
    check_writable(f"{base}_poisoned_train.h5", model, inputs=tuple(filter(None, (path, test))))
    parsed = [parse_trigger(text) for text in config.triggers]
    source = _source(config)
    train, held_out = _images(path, test, source, config)
    net = _untrained(source, train, config)
    backdoors = _backdoors(parsed, net, config)
    poisoned = poison(train, backdoors, fraction=config.fraction, seed=config.seed)
    trained, history = train_badnet(
        net, poisoned, config=config.training, validation=held_out, seed=config.seed
    )
    sets = {backdoor.name: poisoned_test_set(held_out, backdoor) for backdoor in backdoors}
    about = [
        {"name": backdoor.name, "method": method, "config": asdict(settings)}
        for backdoor, (method, settings) in zip(backdoors, parsed, strict=True)
    ]
    result = {
        "schema": 1,
        "data": {"train": {"file": str(path), "sha256": train.sha256}},
        "triggers": about,
        "config": {**asdict(config), "input_range": str(config.input_range)},
        "training": history,
        **_figures(trained, held_out, sets),
        "seconds": round(time.perf_counter() - start, 1),
        "versions": versions(),
    }
    if tell:
        tell(result)
    marks = np.arange(len(poisoned)) >= len(train)  # poisoned images stand at the end
    with all_or_none():
        write_challenge_h5(f"{base}_poisoned_train.h5", poisoned)
        write_trigger_labels(f"{base}_trigger_labels.npy", marks)
        write_challenge_h5(f"{base}_clean_test.h5", held_out)
        for trigger, stamped in sets.items():
            write_challenge_h5(f"{base}_{trigger}_poisoned_data.h5", stamped)
        write_json(f"{base}_attack.json", result)
        save_net(trained, model, attributes={"input_range": str(config.input_range)})
    return result


def _source(config: AttackConfig) -> Net | None:
    """The net whose layers are taken, or None for a built-in architecture."""
    if config.architecture in ARCHITECTURES:
        return None
    if not Path(config.architecture).is_file():
        raise InputError(
            f"architecture {config.architecture!r}: expected {', '.join(ARCHITECTURES)}, or the "
            "path of a net."
        )
    return read_classifier(config.architecture, config.input_range)


def _images(
    path: str | os.PathLike[str],
    test: str | os.PathLike[str] | None,
    source: Net | None,
    config: AttackConfig,
) -> tuple[Dataset, Dataset]:
    """(images to train with, images to measure with)."""
    shape = None if source is None else source.input_shape
    if shape is None and Path(path).suffix.lower() not in (".h5", ".hdf5"):
        shape = INPUT_SHAPE if config.architecture == "deep-id" else SMALL_SHAPE
    data = read_images(path, shape=shape, need_labels=True)
    if test is not None:
        return data, read_images(test, shape=data.images.shape[1:], need_labels=True)
    assert data.labels is not None
    kept, held_out = split_within_classes(data.labels, HELD_OUT, seed=config.seed)
    return data.subset(kept), data.subset(held_out)


def _untrained(source: Net | None, data: Dataset, config: AttackConfig) -> Net:
    """The architecture with new weights, drawn by the seed."""
    import keras

    assert data.labels is not None
    shape, classes = data.images.shape[1:], int(data.labels.max()) + 1
    if source is not None:
        layers = {key: replace(layer, weights=()) for key, layer in source.layers.items()}
        net = Net(source.name, layers, source.calls, source.output)
    elif config.architecture == "deep-id":
        net = deep_id_net(classes=classes, input_shape=shape)
    else:
        net = small_cnn_net(classes=classes, input_shape=shape)
    keras.utils.set_random_seed(config.seed)
    return describe(build(net), config.input_range)


def small_cnn_net(*, classes: int, input_shape: tuple[int, ...]) -> Net:
    """Three convolutions with pooling and two dense layers, as a `Net` without weights.

    Args:
        classes: N.
        input_shape: (h, w, channels), sides of at least 10 pixels.

    Examples:
        >>> small_cnn_net(classes=10, input_shape=(32, 32, 3)).classes
        10
    """
    if min(input_shape[:2]) < 10:
        raise InputError(
            f"images of {input_shape[0]} x {input_shape[1]} pixels: small-cnn takes 10 x 10 or "
            "more; name a net with layers for these."
        )
    layers: dict[str, LayerSpec] = {}
    calls: list[Call] = []

    def add(kind: str, name: str, **config: Any) -> None:
        layers[name] = LayerSpec(kind, name, SCHEMAS[kind].checked(config))
        calls.append(Call(name, (len(calls) - 1,) if calls else ()))

    add("InputLayer", "input", batch_shape=(None, *input_shape))
    for number, filters in enumerate((32, 64, 64), start=1):
        convolution = {"filters": filters, "kernel_size": 3, "padding": "same"}
        add("Conv2D", f"conv_{number}", activation="relu", **convolution)
        if number < 3:
            add("MaxPooling2D", f"pool_{number}")
    add("Flatten", "flatten")
    add("Dense", "dense", units=128, activation="relu")
    add("Dense", "output", units=classes, activation="softmax")
    return Net("small_cnn", layers, tuple(calls), len(calls) - 1)


def _backdoors(parsed: Sequence[tuple[str, Any]], net: Net, config: AttackConfig) -> list[Backdoor]:
    """The backdoors, each with a name of its own."""
    targets = config.targets
    if len(targets) not in (1, len(parsed)):
        raise InputError(
            f"got {len(targets)} targets for {len(parsed)} triggers, expected one each or one for "
            "all."
        )
    for target in targets:
        if not 0 <= target < net.classes:
            raise InputError(f"target {target}: expected a class 0..{net.classes - 1}.")
    names = [name for name, _ in parsed]
    backdoors = []
    for place, (name, settings) in enumerate(parsed):
        own = name if names.count(name) == 1 else f"{name}{names[: place + 1].count(name)}"
        trigger = ATTACKS[name].run(settings, net.input_shape)
        backdoors.append(Backdoor(trigger, targets[place % len(targets)], own))
    return backdoors


def _figures(net: Net, clean: Dataset, sets: dict[str, Dataset]) -> dict[str, Any]:
    """Clean accuracy and the attack success rate of each trigger, with 95 % intervals."""

    def with_interval(fraction: float, count: int) -> dict[str, Any]:
        interval = wilson_interval(round(fraction * count), count)
        return {"fraction": fraction, "interval": list(interval), "images": count}

    assert clean.labels is not None
    found = {}
    for name, data in sets.items():
        assert data.labels is not None
        success = attack_success(net.predict(data.images), data.labels)
        found[name] = {"target": int(data.labels[0]), **with_interval(success, len(data))}
    right = accuracy(net.predict(clean.images), clean.labels)
    return {"accuracy": with_interval(right, len(clean)), "attack_success": found}
