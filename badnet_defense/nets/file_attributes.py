"""The notes that this project writes into a net's file: one schema, checked where they are read.

A net's file comes from somebody, so its notes are text of somebody's: what has another type, lies
outside of its bounds or is not printable is refused before anything is made of it.
"""

import json
import math
import re

from badnet_defense.errors import InputError, UnsafeNetError
from badnet_defense.nets.input_range import InputRange
from badnet_defense.sandbox.hdf5_rules import attribute

MAX_EPOCHS = 2000
"""Of a recipe: a threshold may make its repair five times again, and honest ones take a dozen."""
_MAX_LENGTH = 2**22
"""Characters of a note: a pruning curve of a thousand channels takes thirty thousand."""
_MAX_CHANNELS = 2**16
_SHA256 = r"[0-9a-f]{64}"
_MAX_INTEGERS = {"epochs": MAX_EPOCHS, "least_steps": 100_000, "batch_size": 2**16}
_MAX_FLOATS = {"learning_rate": 10, "clip": 1e6, "shift": 0.5, "sharpness": 1e3}
_MAX_FLOATS |= dict.fromkeys(("erase", "pattern", "light"), 1)
"""What a recipe's other numbers may be at most; none is below 0."""


def _flag(value):
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _words(pattern, expected):
    def check(value):
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(expected)
        return value

    return check


def _number(low, high, kind):
    """A check of one number of a kind, `int` or `float`; truth values are no numbers."""

    def check(value):
        right = isinstance(value, int | kind) and not isinstance(value, bool)
        if not right or not low <= value <= high:  # NaN is not
            raise ValueError(f"a number from {low} to {high}")
        return kind(value)

    return check


def _range(value):
    try:
        return str(InputRange.parse(_words(r"[-+.\deE,]{3,40}", "")(value)))
    except (InputError, ValueError):
        raise ValueError("two numbers like 0,255") from None


def _object(check):
    """A check of a JSON text that holds an object; it stays the text."""

    def checked(value):
        if not isinstance(value, str) or len(value) > _MAX_LENGTH:
            raise ValueError("a JSON object")
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError("a JSON object") from None
        if not isinstance(found, dict):
            raise ValueError("a JSON object")
        check(found)
        return value

    return checked


def _pruning(found):
    order, removed = found.get("order"), found.get("removed")
    whole = isinstance(order, list) and len(order) <= _MAX_CHANNELS
    whole = whole and all(type(one) is int and 0 <= one < _MAX_CHANNELS for one in order)
    if not whole or type(removed) is not int or not 0 <= removed <= len(order):
        raise ValueError("channels in order and how many of them were removed")
    _words(r"[\w.\-/: ]{1,200}", "a layer's name")(found.get("layer"))
    _finite(found)


def _recipe(found):
    bounds = {
        name: (_number(int(name == "batch_size"), most, int), None)
        for name, most in _MAX_INTEGERS.items()
    }
    bounds |= {name: (_number(0, most, float), 0) for name, most in _MAX_FLOATS.items()}
    for name, (check, default) in {**bounds, "decays": (_flag, None)}.items():
        try:
            check(found.get(name, default))
        except ValueError as error:
            raise ValueError(f"{name} to be {error}") from None
    _finite(found)


def check_recipe(recipe):
    """Refuses a recipe ({setting: value}) that a repaired net could not note.

    Raises:
        InputError: a setting lies outside of what is read again.
    """
    try:
        _recipe(recipe)
    except ValueError as error:
        raise InputError(f"the repair cannot be tuned by this recipe: expected {error}.") from None


def _finite(found):
    """Refuses NaN and infinity anywhere, which JSON results cannot hold, and odd texts."""
    waiting = [found]
    while waiting:
        one = waiting.pop()
        if isinstance(one, float) and not math.isfinite(one):
            raise ValueError("finite numbers")
        if isinstance(one, str) and not (one.isprintable() and len(one) <= 200):
            raise ValueError("short, printable texts")
        if isinstance(one, dict | list):
            waiting += [*one, *one.values()] if isinstance(one, dict) else one


ATTRIBUTES = {
    "source_sha256": _words(_SHA256, "a SHA-256 of 64 digits"),
    "synthetic": _flag,
    "made_by": _words(r"[\w .,:()\-]{1,100}", "a few words"),
    "pruning": _object(_pruning),
    "recipe": _object(_recipe),
    "input_range": _range,
    "keep_pruned": _flag,
    "tuned_on": _words(_SHA256, "a SHA-256 of 64 digits"),
    "tuned_on_parts": _number(1, 100, int),
    "tuned_on_seed": _number(0, 2**32 - 1, int),
    "tuned_on_pseudo_labels": _flag,
    "method": _words(r"[a-z\-]{1,40}", "a method's name"),
    "max_accuracy_drop": _number(0, 1, float),
}
"""Name -> a function that gives the value, or raises a `ValueError` with what was expected."""


def read_attributes(file):
    """{name: value} of the notes in an open HDF5 file.

    Raises:
        UnsafeNetError: one is not what this project writes.
    """
    found = {name: attribute(file, name) for name in ATTRIBUTES if name in file.attrs}
    return checked_attributes(
        {name: value.item() if hasattr(value, "item") else value for name, value in found.items()}
    )


def checked_attributes(notes):
    """The notes as plain texts, numbers and truth values; raises as `read_attributes`."""
    checked = {}
    for name, value in notes.items():
        try:
            checked[name] = ATTRIBUTES[name](value)
        except (ValueError, TypeError, KeyError) as error:
            expected = str(error) if isinstance(error, ValueError) else "a note of this project"
            raise UnsafeNetError(
                f"its notes on how it was made are damaged: {str(name)[:40]!r} is "
                f"{str(value)[:40]!r}; expected {expected}; make the repair again."
            ) from None
    return checked
