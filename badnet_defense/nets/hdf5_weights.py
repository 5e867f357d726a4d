"""Finds a net's arrays in the HDF5 layouts that Keras has written, as each generation reads them.

Nothing in a file may be left over: a group, an array or a note that is not read here could be what
another program reads, so that the net that is scanned is not the net that runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import h5py

from badnet_defense.errors import LinkInFileError, UnsafeNetError, WeightError
from badnet_defense.nets.keras_order import keras_order
from badnet_defense.nets.net import Net
from badnet_defense.nets.parse import Entry
from badnet_defense.nets.weights import doubled_snake_names, expected_weights, snake_names
from badnet_defense.sandbox.hdf5_rules import attribute, is_there, member

_LAYERS, _DEPENDENCIES = "layers", "_layer_checkpoint_dependencies"
_TRAINING = frozenset(
    "optimizer metrics compile_metrics compiled_metrics metrics_tracker loss losses loss_tracker "
    "compile_loss compiled_loss".split()
)
"""What groups beside a `.keras` file's layers are called that only training reads."""
_MAX_MEMBERS = 200_000
"""Groups and arrays that a file may hold; two thousand layers make ten thousand."""
_DRAWS = ("Dropout", "SpatialDropout2D")
"""Layers that keep the state of their random generator beside their weights."""
_BACKENDS = ("tensorflow", "jax", "torch", "numpy", "openvino", "cntk", "mxnet")
"""Whose kernels lie as TensorFlow's do; Theano's are turned, and Keras 2 turns them back."""
_DIGITS = "0123456789"
_WEIGHT_NOTES = ("layer_names", "backend", "keras_version")


def plain_dataset(group: h5py.Group, name: str) -> Any:
    """The dataset or group at `name` below `group`, by the rules of `hdf5_rules`.

    Raises:
        WeightError: it is missing.
        UnsafeFileError: it breaks a rule.
    """
    found = member(group, name)
    if found is None:
        raise WeightError(f"{name[:80]!r} is missing; expected the arrays of every layer.")
    return found


def first_dataset(group: h5py.Group, names: Sequence[str]) -> Any:
    """The first of the datasets `names` that is there; raises for the last as `plain_dataset`."""
    for name in names[:-1]:
        with suppress(WeightError):
            return plain_dataset(group, name)
    return plain_dataset(group, names[-1])


def find_arrays(
    net: Net, root: Entry, file: h5py.File, notes: Iterable[str] = ()
) -> dict[str, list[Any]]:
    """Layer name -> datasets, in whichever of Keras' layouts `file` has.

    Args:
        net, root: as `parse_model` gives them.
        file: an open `h5py.File`.
        notes: names of the attributes that the file itself may have, beside Keras' own.

    Raises:
        WeightError: arrays are missing, or listed in another order than the net's layers.
        UnsafeNetError: something in the file is read by nobody.
    """
    expected = expected_weights(net)
    if any(name.startswith((_LAYERS, _DEPENDENCIES)) for name in file) and "model_config" not in (
        file.attrs
    ):
        counts = {name: len(weights) for name, weights in expected.items()}
        return arrays_by_class(root, counts, file, notes)
    return _arrays_by_name(expected, root, file, notes)


# Keras 1 and 2, and `.h5` of Keras 3: layers by name ----------------------------------------------


def _arrays_by_name(
    expected: Mapping[str, Mapping[str, tuple[int, ...]]],
    root: Entry,
    file: h5py.File,
    notes: Iterable[str],
) -> dict[str, list[Any]]:
    """From `model_weights/<layer>`, in the order of `layer_names` and `weight_names`."""
    whole = is_there(file, "model_weights") or "model_config" in file.attrs
    group, prefix = (
        (plain_dataset(file, "model_weights"), "model_weights/") if whole else (file, "")
    )
    if not isinstance(group, h5py.Group):
        raise WeightError("'model_weights' is no group; expected one group a layer.")
    generation, listed = _generation(group), _texts(group, "layer_names")
    weights = {name: _texts(plain_dataset(group, name), "weight_names") for name in listed}
    own = [entry for entry in root.inner if _wanted(entry, expected)]
    for entry in own:
        given, wanted = weights.get(entry.name), _wanted(entry, expected)
        if given is not None and len(given) != wanted:
            raise WeightError(f"layer {entry.name!r} has {len(given)} weights; expected {wanted}.")
    _check_listed([name for name in listed if weights[name]], [entry.name for entry in own])
    arrays: dict[str, dict[str, Any]] = {}
    read: set[str] = set()
    for entry in own:
        slots = _slots(entry, expected, generation)
        for (layer, weight), name in zip(slots, weights[entry.name], strict=True):
            stored = plain_dataset(group, f"{entry.name}/{name}")
            arrays.setdefault(layer, {})[weight] = stored
            read.add(f"{prefix}{entry.name}/{name}")
    # Of a whole net, `layer_names` at the root would send `load_weights` to other groups.
    at_root = {"model_config", "training_config", "backend", "keras_version", *notes}
    contents = _Contents(
        read=read,
        groups={prefix + name for name in (*listed, "top_level_model_weights")},
        passed={"optimizer_weights"} if whole else set(),
        notes={"": at_root, prefix.rstrip("/"): {*_WEIGHT_NOTES, *(() if whole else at_root)}},
        layer_notes={"weight_names"},
    )
    contents.check(file)
    return {name: [found[weight] for weight in expected[name]] for name, found in arrays.items()}


def _check_listed(listed: list[str], names: list[str]) -> None:
    """Refuses `layer_names` in another order than the net's own: Keras loads by the order alone."""
    if listed == names:
        return
    missing = [name for name in names if name not in listed]
    if missing:
        raise WeightError(f"{missing[0]!r} is missing in its `layer_names`; expected every layer.")
    place = next((at for at, name in enumerate(names) if listed[at] != name), len(names))
    raise WeightError(
        f"its `layer_names` have {listed[place]!r} where its configuration has "
        f"{names[place] if place < len(names) else 'nothing'!r}: Keras would load one layer's "
        "weights into another; expected the same order."
    )


def _generation(group: h5py.Group) -> int:
    """1, 2 or 3: which Keras wrote the weights, as they say themselves."""
    backend = _text(attribute(group, "backend", "tensorflow"))
    if backend not in _BACKENDS:
        raise WeightError(
            f"its weights were written on {backend[:40]!r}, whose kernels may be turned; expected "
            "TensorFlow: load it there and save it again."
        )
    version = _text(attribute(group, "keras_version", "1"))
    return int(version[0]) if version[:1] in ("1", "2") else 3


def _wanted(entry: Entry, expected: Mapping[str, Mapping[str, tuple[int, ...]]]) -> int:
    """How many arrays a layer or a nested model has."""
    return sum(len(expected.get(leaf.flat, ())) for leaf in entry.leaves())


def _slots(
    entry: Entry, expected: Mapping[str, Mapping[str, tuple[int, ...]]], generation: int
) -> list[tuple[str, str]]:
    """(layer, weight) in the stored order: what could be trained first, then the rest.

    Keras 3 keeps the layers' order in a nested model that was frozen as a whole, even where some
    of its layers were thawed again.

    Raises:
        WeightError: a file of Keras 1 or 2 is read otherwise by Keras 3.
    """
    plain = [(leaf, name) for leaf in entry.leaves() for name in expected.get(leaf.flat, ())]
    older = plain
    if entry.children is not None:
        older = sorted(plain, key=lambda one: not one[0].trainable or one[1].startswith("moving_"))
    newer = older if entry.trainable else plain
    if generation < 3 and newer != older:
        raise WeightError(
            f"the model {entry.name!r} in it is frozen while some of its layers are not, whose "
            "weights Keras 2 and Keras 3 read in different orders; save it again with Keras 3."
        )
    return [(leaf.flat, name) for leaf, name in newer]


def _texts(group: h5py.Group, name: str) -> list[str]:
    """A list of texts in an attribute, which Keras cuts in pieces where it takes over 64 kB."""
    if not isinstance(group, h5py.Group):
        raise WeightError(f"{group.name[:80]!r} is no group; expected one group a layer.")
    whole = attribute(group, name)
    pieces: list[Any] = []
    while (piece := attribute(group, f"{name}{len(pieces)}")) is not None:
        pieces.append(piece)
    numbered = [one for one in group.attrs if one != name and one.rstrip(_DIGITS) == name]
    if len(numbered) != len(pieces) or (whole is not None and pieces):
        raise WeightError(
            f"it has {name!r} whole and in pieces, or a piece too many; expected one list."
        )
    return [_text(one) for piece in ([whole] if whole is not None else pieces) for one in piece]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


# `.keras` and `.weights.h5`: layers by class ------------------------------------------------------


def arrays_by_class(
    root: Entry, counts: Mapping[str, int], file: h5py.File, notes: Iterable[str] = ()
) -> dict[str, list[Any]]:
    """{flat name: datasets} from Keras 3's layout, `layers/conv2d_1/vars/0`.

    Keras 2.12 to 2.15 wrote it too, in some versions below `_layer_checkpoint_dependencies`, where
    each layer with weights counts twice, and with backslashes on Windows.

    Args:
        root: `Entry` of the whole model, its layers in Keras' order.
        counts: {flat name: how many arrays the layer has}.
        file: the open `h5py.File` of the weights.
        notes: names of the attributes that the file itself may have.

    Raises:
        WeightError, UnsafeNetError: as `find_arrays`.
    """
    names = list(file)
    separator = "\\" if any("\\" in name for name in names) else "/"
    fronts = {name.split(separator)[0] for name in names}
    ways = [
        (container, numbering)
        for container, numbering in (
            (_LAYERS, snake_names),
            (_DEPENDENCIES, doubled_snake_names),
            (_DEPENDENCIES, snake_names),
        )
        if container in fronts
    ]
    refusal = WeightError("the arrays of its layers are missing.")
    for container, numbering in ways:
        layout = _ByClass(container, numbering, separator, counts)
        try:
            arrays = layout.find(root, file)
        except WeightError as error:
            refusal = error if container == ways[0][0] else refusal
            continue
        passed = {name for name in names if _is_training(name, separator)}
        _Contents(
            read=layout.read,
            groups={*layout.groups, "vars"},
            passed=passed | layout.passed,
            notes={"": set(notes)},
            layer_notes={"name"},
            hollow={one for one in (_LAYERS, _DEPENDENCIES) if one != container},
        ).check(file)
        return arrays
    raise refusal


def _is_training(name: str, separator: str) -> bool:
    return name.split(separator)[0].strip("_") in _TRAINING


class _ByClass:
    """Where one way of naming puts the layers, and what of the file that accounts for."""

    def __init__(
        self,
        container: str,
        numbering: Callable[..., Iterator[tuple[Entry, str]]],
        separator: str,
        counts: Mapping[str, int],
    ) -> None:
        self.container, self.numbering = container, numbering
        self.separator, self.counts = separator, counts
        self.read: set[str] = set()
        self.groups: set[str] = set()
        self.passed: set[str] = set()

    def find(self, root: Entry, file: h5py.File) -> dict[str, list[Any]]:
        arrays, waiting = {}, [(root, "")]
        while waiting:
            entry, place = waiting.pop()
            for child, stored in self.numbering(entry.inner, self._has_weights):
                path = self.separator.join([*([place] if place else []), self.container, stored])
                self.groups |= {path, f"{path}/vars"}
                if child.children is not None:
                    waiting.append((child, path))
                    continue
                if child.kind in _DRAWS:
                    draws = self.separator.join([path, "seed_generator"])
                    self.groups |= {draws, f"{draws}/vars"}
                    self.passed.add(f"{draws}/vars/0")
                own = [f"{path}/vars/{place}" for place in range(self.counts.get(child.flat, 0))]
                if own:
                    arrays[child.flat] = [plain_dataset(file, one) for one in own]
                self.read.update(own)
        return arrays

    def _has_weights(self, entry: Entry) -> bool:
        return any(self.counts.get(leaf.flat) for leaf in entry.leaves())


# What is left over --------------------------------------------------------------------------------


class _Contents:
    """All that a file may hold; `check` refuses whatever else is in it.

    Args:
        read: paths of the arrays that were read.
        groups: paths of further groups that may be there.
        passed: paths of groups and arrays that only training reads: nothing below is looked at.
        notes: {path of a group: names of the attributes that it may have}.
        layer_notes: names of those that all other groups may have, or pieces of them.
        hollow: paths of groups that may hold groups, but no arrays.
    """

    def __init__(
        self,
        *,
        read: Iterable[str],
        groups: Iterable[str],
        passed: Iterable[str],
        notes: Mapping[str, set[str]],
        layer_notes: set[str],
        hollow: Iterable[str] = (),
    ) -> None:
        self.read, self.passed, self.notes, self.layer_notes = read, passed, notes, layer_notes
        self.hollow = tuple(hollow)
        known = {*read, *groups, *passed}
        self.groups = {"", *groups}
        for path in known:
            parts = path.split("/")
            self.groups |= {"/".join(parts[:end]) for end in range(1, len(parts))}

    def check(self, file: h5py.File) -> None:
        """Walks the open file; raises `UnsafeNetError` at the first thing that is not known."""
        waiting, left = [("", file)], _MAX_MEMBERS
        while waiting:
            path, node = waiting.pop()
            left -= 1
            if left < 0:
                raise UnsafeNetError(f"it holds more than {_MAX_MEMBERS:,} groups and arrays.")
            if isinstance(node, h5py.Group):
                self._check_notes(path, node)
                for name in node:
                    below = f"{path}/{name}" if path else name
                    found = self._known(node, name, below)
                    if found is not None:
                        waiting.append((below, found))
            elif list(node.attrs):
                raise UnsafeNetError(
                    f"the array {path[:80]!r} has the note {next(iter(node.attrs))[:40]!r}, which "
                    "may change its values; expected none."
                )

    def _known(self, node: h5py.Group, name: str, path: str) -> Any:
        """The member `name` of a group, if it is one that is read; None for training's own."""
        if node.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise LinkInFileError(f"{path[:80]!r} is a link; expected values in the file itself.")
        if path in self.passed:
            return None
        found = node[name]
        is_group = isinstance(found, h5py.Group)
        hollow = path.split("/")[0].split("\\")[0] in self.hollow and path.count("/") < 32
        if path in (self.groups if is_group else self.read) or (is_group and hollow):
            return found
        what = "group" if is_group else "array"
        raise UnsafeNetError(
            f"its {what} {path[:80]!r} is read by none of the net's layers; expected nothing but "
            "their weights: another program may take it for the net."
        )

    def _check_notes(self, path: str, node: h5py.Group) -> None:
        known = self.notes.get(path, self.layer_notes)
        for name in node.attrs:
            lists = {"layer_names", "weight_names"} & set(known)
            if name not in known and name.rstrip(_DIGITS) not in lists:
                raise UnsafeNetError(
                    f"{repr(path[:80]) if path else 'it'} has the note {name[:40]!r}, which is "
                    "not read; expected those of Keras and of this project alone."
                )


def entries_of(net: Net) -> Entry:
    """The Entry tree of a flat net, for weights-only files that bring no configuration."""
    links = {place: (call.layer, list(call.inputs)) for place, call in enumerate(net.calls)}
    children = [
        Entry(net.layers[name].kind, name, name, True) for name in keras_order(links, net.output)[0]
    ]
    return Entry("Functional", net.name, "", True, children)
