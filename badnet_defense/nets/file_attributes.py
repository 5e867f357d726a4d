"""The attributes that this project writes into a net's file, checked where they are read.

A net's file comes from somebody, so its attributes are somebody's text: what has another type, lies
outside of its bounds or is not printable is refused before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from badnet_defense.errors import InputError, UnsafeNetError
from badnet_defense.io.repair_record import (
    ATTRIBUTE,
    RepairRecord,
    json_object,
    method_name,
    number,
    pruning_facts,
    recipe_settings,
    seed_number,
    sha256_digest,
    truth,
    words,
)
from badnet_defense.nets.input_range import InputRange
from badnet_defense.sandbox.hdf5_rules import attribute


def _range(value: object) -> str:
    try:
        return str(InputRange.parse(words(r"[-+.\deE,]{3,40}", "")(value)))
    except (InputError, ValueError):
        raise ValueError("two numbers like 0,255") from None


def _text_of(check: Callable[[dict[str, Any]], object]) -> Callable[[object], object]:
    """A check of a JSON text that holds an object; it stays the text."""

    def checked(value: object) -> object:
        check(json_object(value))
        return value

    return checked


def _record(value: object) -> object:
    RepairRecord.parse(value)
    return value


ATTRIBUTES: dict[str, Callable[[object], Any]] = {
    ATTRIBUTE: _record,
    "synthetic": truth,
    "made_by": words(r"[\w .,:()\-]{1,100}", "a few words"),
    "input_range": _range,
    # A repair's record in files of version 0.1, value by value:
    "source_sha256": sha256_digest,
    "pruning": _text_of(pruning_facts),
    "recipe": _text_of(recipe_settings),
    "keep_pruned": truth,
    "tuned_on": sha256_digest,
    "tuned_on_parts": number(1, 100, int),
    "tuned_on_seed": seed_number,
    "tuned_on_pseudo_labels": truth,
    "method": method_name,
    "max_accuracy_drop": number(0, 1, float),
}
"""Name -> a function that gives the value, or raises a `ValueError` with what was expected."""


def read_attributes(file: Any) -> dict[str, Any]:
    """{name: value} of the attributes of `ATTRIBUTES` in an open HDF5 file.

    Raises:
        UnsafeNetError: one is not what this project writes.
    """
    values = {name: attribute(file, name) for name in ATTRIBUTES if name in file.attrs}
    return checked_attributes(
        {name: value.item() if hasattr(value, "item") else value for name, value in values.items()}
    )


def checked_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes as plain texts, numbers and truth values; raises as `read_attributes`."""
    checked = {}
    for name, value in attributes.items():
        try:
            checked[name] = ATTRIBUTES[name](value)
        except (ValueError, TypeError, KeyError) as error:
            expected = str(error) if isinstance(error, ValueError) else "one of this project's"
            raise UnsafeNetError(
                f"its attributes on how it was made are damaged: {str(name)[:40]!r} is "
                f"{str(value)[:40]!r}; expected {expected}; make the repair again."
            ) from None
    return checked
