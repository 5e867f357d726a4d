"""The record that a repair leaves: how a net was repaired, and which images that depended on.

It is one attribute of the repaired net's `.h5` file (`ATTRIBUTE`, JSON) and stands in its result,
whichever command made it. A file comes from somebody, so every value is checked when it is read.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from badnet_defense.errors import InputError
from badnet_defense.io.splits import Parts, three_parts

if TYPE_CHECKING:
    from badnet_defense.io.dataset import Dataset

ATTRIBUTE = "repair_record"
"""Name of the attribute of a repaired net's file."""
FORMAT_VERSION = 1
MAX_EPOCHS = 2000
"""Of a recipe: a threshold may make its repair five times again, and usual ones take a dozen."""
MAX_IMAGES = 1_000_000
"""Of which a repair is recorded; their hashes take 12 MB of the repaired net's file."""
_DIGITS = 12
"""Hexadecimal digits of an image's hash: of a million images two are alike once in 500 sets."""
_PARTS = ("tuning", "choosing", "untouched")
_MAX_CHARACTERS = 2**24
_MAX_CHANNELS = 2**16
_SHA256 = r"[0-9a-f]{64}"
_WHOLE = {"epochs": MAX_EPOCHS, "least_steps": 100_000, "batch_size": 2**16}
_UP_TO = {"learning_rate": 10, "clip": 1e6, "shift": 0.5, "sharpness": 1e3}
_UP_TO |= dict.fromkeys(("erase", "pattern", "light"), 1)
"""What a recipe's other numbers may be at most; none is below 0."""
_OLD_HELD_OUT = 0.15
"""What repairs that recorded three parts by their number alone held out. It never changes."""


@dataclass(frozen=True, kw_only=True)
class RepairRecord:
    """How a net was repaired, so that it can be told, and made again on a part of the images.

    Args:
        method: name of the repair.
        config: its settings as plain values; `tuning` is its recipe.
        source_sha256: of the suspect model's file.
        input_range: the net's range, such as "0,1".
        seed: of the repair and of the split of its images.
        pseudo_labels: True where the suspect model's predictions were the labels.
        tuned_on: `Dataset.fingerprint` of the clean images; None where it is not known.
        parts: {"tuning": .., "choosing": .., "untouched": ..}: the hashes of the images whose
            weights were tuned on them, that chose the epoch, and that the repair does not depend
            on, `_DIGITS` digits each; None in files before format 1.
        split: how many parts the images had, in files before format 1.
        pruning: what fine-pruning pruned (`layer`, `order`, `removed`, ..), or None.
        method_version: of the method.
        versions: of the packages that made it.
        format_version: of this record; 0 for files before it.

    Examples:
        >>> record = RepairRecord(method="anp", config={"steps": 5}, source_sha256="0a" * 32,
        ...                       input_range="0,1", seed=0)
        >>> RepairRecord.parse(record.to_json()) == record
        True
    """

    method: str | None
    config: dict[str, Any]
    source_sha256: str | None
    input_range: str | None
    seed: int | None
    pseudo_labels: bool = False
    tuned_on: str | None = None
    parts: dict[str, str] | None = None
    split: int | None = None
    pruning: dict[str, Any] | None = None
    method_version: int = 1
    versions: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """The record as one JSON text, as it stands in a file."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def parse(cls, text: object) -> RepairRecord:
        """The record in a JSON text.

        Raises:
            ValueError: it is none; its message says what was expected.
        """
        plain = json_object(text)
        if plain.get("format_version") != FORMAT_VERSION:
            raise ValueError(f"a record of format {FORMAT_VERSION}")
        checked = {}
        for name, check in _FIELDS.items():
            try:
                checked[name] = check(plain[name])
            except (KeyError, TypeError):
                raise ValueError(f"{name} in a repair's record") from None
            except ValueError as error:
                raise ValueError(f"{name} to be {error}") from None
        return cls(**checked)

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> RepairRecord | None:
        """The record among a net's attributes, which were checked when it was read.

        Files of version 0.1 hold its values one by one. None: the net was not repaired.
        """
        if ATTRIBUTE in attributes:
            return cls.parse(attributes[ATTRIBUTE])
        if not {"source_sha256", "tuned_on", "pruning"} & set(attributes):
            return None
        config = {"keep_pruned": True} if attributes.get("keep_pruned") else {}
        if "recipe" in attributes:
            config["tuning"] = json.loads(attributes["recipe"])
        if "max_accuracy_drop" in attributes:
            config["max_accuracy_drop"] = attributes["max_accuracy_drop"]
        pruning = attributes.get("pruning")
        return cls(
            method=attributes.get("method", "fine-pruning" if pruning else None),
            config=config,
            source_sha256=attributes.get("source_sha256"),
            input_range=attributes.get("input_range"),
            seed=attributes.get("tuned_on_seed"),
            pseudo_labels=attributes.get("tuned_on_pseudo_labels", False),
            tuned_on=attributes.get("tuned_on"),
            split=attributes.get("tuned_on_parts"),
            pruning=None if pruning is None else json.loads(pruning),
            format_version=0,
        )

    @property
    def pruned_channels(self) -> tuple[str, list[int]] | None:
        """(layer, numbers of its pruned channels), or None where none are recorded."""
        if self.pruning is None:
            return None
        return self.pruning["layer"], self.pruning["order"][: self.pruning["removed"]]

    @property
    def knows_images(self) -> bool:
        """True where it is recorded which images the repair depends on."""
        return self.parts is not None or self.tuned_on is not None

    def depends_on(self, data: Dataset) -> np.ndarray:
        """(n,) True for each of the images that the repair was tuned on, or that chose its epoch.

        They are known by their own hashes, in whatever set they are. Of a file before format 1 the
        set must be the very same; its split is made again, and without one nothing was untouched.

        Args:
            data: images; of a file before format 1 all count where they have no labels.
        """
        if self.parts is not None:
            text = self.parts["tuning"] + self.parts["choosing"]
            hashes = {text[start : start + _DIGITS] for start in range(0, len(text), _DIGITS)}
            return np.array([image in hashes for image in image_hashes(data)], bool)
        if self.tuned_on != data.fingerprint():
            return np.zeros(len(data), bool)
        seen = np.ones(len(data), bool)
        if data.labels is not None and self.split is not None and self.seed is not None:
            seen[three_parts(data.labels, _OLD_HELD_OUT, seed=self.seed).untouched] = False
        return seen


def image_hashes(data: Dataset) -> list[str]:
    """A short hash of each image: the first digits of the SHA-256 of its shape and pixels."""
    about = f"{data.images.dtype} {data.images.shape[1:]}".encode()
    return [
        hashlib.sha256(about + np.ascontiguousarray(image).tobytes()).hexdigest()[:_DIGITS]
        for image in data.images
    ]


def hashes_of_parts(data: Dataset, parts: Parts) -> dict[str, str]:
    """The hashes of the images of each of the `Parts`, as a record keeps them.

    Raises:
        InputError: more than `MAX_IMAGES` images.
    """
    if len(data) > MAX_IMAGES:
        raise InputError(
            f"{data.source}: got {len(data):,} clean images; a repair takes at most "
            f"{MAX_IMAGES:,}: draw some of them."
        )
    hashes = np.array(image_hashes(data))
    return {part: "".join(hashes[getattr(parts, part)]) for part in _PARTS}


# What a file may say ------------------------------------------------------------------------------


def truth(value: object) -> bool:
    """A truth value; `ValueError` for anything else, as all checks here."""
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def words(pattern: str, expected: str) -> Callable[[object], str]:
    """A check of a text that a pattern matches as a whole."""

    def check(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(expected)
        return value

    return check


def number(low: float, high: float, kind: type) -> Callable[[object], Any]:
    """A check of one number of a kind, `int` or `float`; truth values are no numbers."""

    def check(value: object) -> Any:
        right = isinstance(value, int | kind) and not isinstance(value, bool)
        if not right or not low <= value <= high:  # type: ignore[operator]  # NaN is not
            raise ValueError(f"a number from {low} to {high}")
        return kind(value)

    return check


def optional(check: Callable[[object], Any]) -> Callable[[object], Any]:
    """The same check, which lets None pass."""
    return lambda value: None if value is None else check(value)


def json_object(value: object) -> dict[str, Any]:
    """The object in a JSON text."""
    parsed = None
    if isinstance(value, str) and len(value) <= _MAX_CHARACTERS:
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            parsed = None
    if not isinstance(parsed, dict):
        raise ValueError("a JSON object")
    return parsed


def plain_object(value: object) -> dict[str, Any]:
    """An object without NaN and infinity, which JSON results cannot hold, and without odd texts."""
    if not isinstance(value, dict):
        raise ValueError("a JSON object")
    waiting: list[object] = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError("finite numbers")
        if isinstance(item, str) and not (item.isprintable() and len(item) <= 200):
            raise ValueError("short, printable texts")
        if isinstance(item, dict):
            waiting += [*item, *item.values()]
        elif isinstance(item, list):
            waiting += item
    return value


def pruning_facts(value: object) -> dict[str, Any]:
    """What fine-pruning pruned: channels in order, how many were removed, and the layer."""
    if not isinstance(value, dict):
        raise ValueError("a JSON object")
    order, removed = value.get("order"), value.get("removed")
    if (
        not isinstance(order, list)
        or len(order) > _MAX_CHANNELS
        or not all(type(channel) is int and 0 <= channel < _MAX_CHANNELS for channel in order)
        or type(removed) is not int
        or not 0 <= removed <= len(order)
    ):
        raise ValueError("channels in order and how many of them were removed")
    words(r"[\w.\-/: ]{1,200}", "a layer's name")(value.get("layer"))
    return plain_object(value)


def recipe_settings(value: object) -> dict[str, Any]:
    """The settings of a `Recipe`, within bounds."""
    if not isinstance(value, dict):
        raise ValueError("a JSON object")
    bounds: dict[str, tuple[Callable[[object], Any], Any]] = {
        name: (number(int(name == "batch_size"), most, int), None) for name, most in _WHOLE.items()
    }
    bounds |= {name: (number(0, most, float), 0) for name, most in _UP_TO.items()}
    for name, (check, default) in {**bounds, "decays": (truth, None)}.items():
        try:
            check(value.get(name, default))
        except ValueError as error:
            raise ValueError(f"{name} to be {error}") from None
    return plain_object(value)


def config_settings(value: object) -> dict[str, Any]:
    """A repair's settings: plain values, and a recipe where it tunes."""
    settings = plain_object(value)
    if settings.get("tuning") is not None:
        recipe_settings(settings["tuning"])
    return settings


def check_config(config: Mapping[str, Any]) -> None:
    """Refuses settings (plain values) that could not be recorded, before the work.

    Raises:
        InputError: a setting lies outside of what is read again.
    """
    try:
        config_settings(json.loads(json.dumps(config)))
    except (ValueError, TypeError) as error:
        raise InputError(f"the settings of the repair cannot be used: expected {error}.") from None


def _parts(value: object) -> dict[str, str]:
    hashes = rf"([0-9a-f]{{{_DIGITS}}})*"
    if not isinstance(value, dict) or sorted(value) != sorted(_PARTS):
        raise ValueError(f"hashes of the images of {', '.join(_PARTS)}")
    return {part: words(hashes, "hashes of images")(value[part]) for part in _PARTS}


sha256_digest = words(_SHA256, "a SHA-256 of 64 digits")
method_name = words(r"[a-z0-9_.\-]{1,60}", "a method's name")
range_text = words(r"[-+.\deE]{1,20},[-+.\deE]{1,20}", "two numbers like 0,255")
seed_number = number(0, 2**32 - 1, int)
_FIELDS: dict[str, Callable[[object], Any]] = {
    "method": method_name,
    "config": config_settings,
    "source_sha256": sha256_digest,
    "input_range": range_text,
    "seed": seed_number,
    "pseudo_labels": truth,
    "tuned_on": optional(sha256_digest),
    "parts": optional(_parts),
    "split": optional(number(1, 100, int)),
    "pruning": optional(pruning_facts),
    "method_version": number(1, 10**6, int),
    "versions": plain_object,
    "format_version": number(FORMAT_VERSION, FORMAT_VERSION, int),
}
"""Name -> a function that gives the value, or raises a `ValueError` with what was expected."""
