"""Reads a saved guard as data: its two nets, without TensorFlow and without running anything."""

from badnet_defense.data.files import require_file
from badnet_defense.errors import InputError, UnsafeNetError
from badnet_defense.nets.hdf5_weights import arrays_by_class, plain_dataset
from badnet_defense.nets.loader import named_errors, opened_keras_zip
from badnet_defense.nets.parse import parse_model
from badnet_defense.nets.weights import with_weights

_FUNCTION = {"class_name": "function", "config": "badnet_defense>disagreement"}
_PORTABLE = ["Argmax", "Argmax", "Equal", "FullLike", "Where", "Cast"]
_PLACES = {"bad": "layers/functional", "repaired": "layers/functional_1"}


def read_guard(path):
    """(bad net, repaired net) as `NetSpec`, from a guard that this project saved.

    Args:
        path: `.guard.keras`, or a guard that `export_portable` wrote as `.keras`.

    Raises:
        InputError: it is no guard.
        UnsafeNetError: its nets are made of more than plain layers.
    """
    path = require_file(path, "a guard (.guard.keras)")
    with named_errors(path), opened_keras_zip(path) as (document, file):
        nets = _nested(document)
        specs = []
        for name, place in _PLACES.items():
            spec, root = parse_model(nets[name])
            group = plain_dataset(file, place)
            specs.append(with_weights(spec, arrays_by_class(spec, root, group)))
    return tuple(specs)


def is_guard(path):
    """True where the file has the shape of a guard; its nets are not looked at yet."""
    try:
        with named_errors(path), opened_keras_zip(path) as (document, _):
            return bool(_nested(document))
    except InputError:
        return False


def _nested(document):
    try:
        layers = document["config"]["layers"]
        nets = {layer["name"]: layer for layer in layers[1:3]}
        joins = [layer["class_name"] for layer in layers[3:]]
        by_name = joins == ["Lambda"] and _names_disagreement(layers[3]["config"]["function"])
        if set(nets) == set(_PLACES) and (by_name or joins == _PORTABLE):
            return nets
    except (KeyError, TypeError, IndexError):
        pass
    raise UnsafeNetError(
        "it is no guard of this project; expected a bad and a repaired net, joined."
    )


def _names_disagreement(function):
    return all(function.get(key) == value for key, value in _FUNCTION.items())
