"""Finds a net's arrays in the two HDF5 layouts that Keras has written: by layer name, by class."""

from contextlib import suppress

from badnet_defense.data.hdf5_rules import attribute, is_there, member
from badnet_defense.errors import WeightError
from badnet_defense.nets.parse import Entry
from badnet_defense.nets.weights import expected_weights, snake_names

_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")


def plain_dataset(group, name):
    """The dataset or group at `name` below `group`, by the rules of `hdf5_rules`.

    Raises:
        WeightError: it is missing.
        UnsafeFileError: it breaks a rule.
    """
    found = member(group, name)
    if found is None:
        raise WeightError(f"{name[:80]!r} is missing; expected the arrays of every layer.")
    return found


def first_dataset(group, names):
    """The first of the datasets `names` that is there; raises for the last as `plain_dataset`."""
    for name in names[:-1]:
        with suppress(WeightError):
            return plain_dataset(group, name)
    return plain_dataset(group, names[-1])


def arrays_by_name(spec, root, group):
    """Layer name -> datasets, from the layout of Keras 1 and 2: `group[layer]`, `weight_names`."""
    expected, arrays = expected_weights(spec), {}
    keras_3 = _text(attribute(group, "keras_version", "")).startswith("3")
    for entry in root.children:
        wanted = sum(len(expected.get(leaf.flat, ())) for leaf in entry.leaves())
        if not wanted:
            continue
        stored = plain_dataset(group, entry.name)
        names = _weight_names(stored)
        for slot, name in zip(_slots(entry, expected, keras_3), names, strict=False):
            arrays.setdefault(slot[0], {})[slot[1]] = plain_dataset(stored, name)
        if len(names) != wanted:
            raise WeightError(f"layer {entry.name!r} has {len(names)} weights; expected {wanted}.")
    return {name: [found[weight] for weight in expected[name]] for name, found in arrays.items()}


def _slots(entry, expected, keras_3):
    """(layer, weight) in the stored order: what could be trained first, then the rest.

    Keras 3 keeps the layers' order in a nested model that was frozen as a whole, even where some
    of its layers were thawed again.
    """
    leaves = entry.leaves()
    slots = [(leaf, weight) for leaf in leaves for weight in expected.get(leaf.flat, ())]
    if len(leaves) > 1 and not (keras_3 and not entry.trainable):
        slots.sort(key=lambda slot: not slot[0].trainable or slot[1].startswith("moving_"))
    return [(leaf.flat, weight) for leaf, weight in slots]


def arrays_by_class(spec, root, group):
    """Layer name -> datasets, from Keras 3's layout: `layers/conv2d_1/vars/0`."""
    expected, arrays = expected_weights(spec), {}
    _collect(root, group, expected, arrays)
    return arrays


def _collect(entry, group, expected, arrays):
    container = next((name for name in _CONTAINERS if is_there(group, name)), None)
    for child, stored in snake_names(entry.children):
        if not any(expected.get(leaf.flat) for leaf in child.leaves()):
            continue
        if container is None:
            raise WeightError("the arrays of its layers are missing.")
        inner = plain_dataset(group, f"{container}/{stored}")
        if child.children is not None:
            _collect(child, inner, expected, arrays)
            continue
        count = len(expected[child.flat])
        arrays[child.flat] = [plain_dataset(inner, f"vars/{index}") for index in range(count)]


def find_arrays(spec, root, file):
    """Layer name -> datasets, in whichever of the two layouts `file` has.

    Args:
        spec, root: as `parse_model` gives them.
        file: an open `h5py.File`.
    """
    if any(is_there(file, name) for name in _CONTAINERS):
        return arrays_by_class(spec, root, file)
    group = plain_dataset(file, "model_weights") if is_there(file, "model_weights") else file
    return arrays_by_name(spec, root, group)


def entries_of(spec):
    """The Entry tree of a flat net, for weights-only files that bring no configuration."""
    children = [
        Entry(layer.kind, name, name, True, [] if layer.kind == "InputLayer" else None)
        for name, layer in spec.layers.items()
    ]
    return Entry("Functional", spec.name, "", True, children)


def _weight_names(group):
    """The names in `weight_names`, which Keras cuts in pieces where they need more than 64 kB."""
    whole = attribute(group, "weight_names")
    if whole is not None:
        return [_text(name) for name in whole]
    names = []
    while (piece := attribute(group, f"weight_names{len(names)}")) is not None:
        names.append([_text(name) for name in piece])
    return [name for piece in names for name in piece]


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)
