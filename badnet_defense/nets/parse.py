"""Reads the configuration of a Keras model as data, checking every layer against the allow-list."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from badnet_defense.errors import CodeInNetError, UnsafeFileError, UnsafeNetError
from badnet_defense.nets.keras1 import translate_layer
from badnet_defense.nets.keras_order import keras_order
from badnet_defense.nets.layers import SCHEMAS
from badnet_defense.nets.net import Call, LayerSpec, Net, call_shapes
from badnet_defense.nets.shapes import check_shapes

MODELS = ("Functional", "Sequential", "Model")
MAX_LAYERS = 2000
MALFORMED_CONFIG_ERRORS = (
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    RecursionError,
    OverflowError,
)
_POLICIES = ("DTypePolicy", "FloatDTypePolicy", "Policy", "PolicyV1")
_MODULES = re.compile(
    r"(keras|tf_keras|tensorflow\.keras|tensorflow\.python\.keras)(\.src)?(\.(layers|engine|models)[\w.]*)?"
)
"""Where Keras' own layers and models live, by the names that its generations have written."""
LAYER_KEYS = frozenset(
    "class_name config name inbound_nodes module registered_name build_config compile_config"
    "".split()
)
MODEL_KEYS = frozenset(
    "name trainable dtype layers input_layers output_layers build_input_shape".split()
)
ONLY_TRAINING = frozenset(
    "RandomFlip RandomRotation RandomZoom RandomTranslation RandomContrast RandomBrightness "
    "RandomShear RandomErasing RandomHue RandomSaturation RandomSharpness RandomGrayscale "
    "RandomInvert RandomPerspective RandomColorJitter RandomColorDegeneration RandomPosterization "
    "RandomGaussianBlur RandomElasticTransform RandAugment AugMix MixUp CutMix GaussianNoise "
    "GaussianDropout AlphaDropout".split()
)
"""Keras' layers that do nothing to images at inference, and are none of the allowed ones."""


@dataclass
class Entry:
    """A layer as it stands in the file: where its weights are found.

    Args:
        kind: its class name in the file.
        name: its name in the file.
        flat: its name in the flattened net.
        trainable: False where it was frozen (older files store frozen weights last).
        children: the layers of a nested model, in the order in which Keras numbers them; None for
            a plain layer.
    """

    kind: str
    name: str
    flat: str
    trainable: bool
    children: list[Entry] | None = None

    @property
    def inner(self) -> list[Entry]:
        """The layers of a nested model."""
        if self.children is None:
            raise TypeError(f"{self.name} is a plain layer")
        return self.children

    def leaves(self) -> list[Entry]:
        """The plain layers in it, in Keras' order."""
        if self.children is None:
            return [self]
        return [leaf for child in self.children for leaf in child.leaves()]


def parse_model(document: Any) -> tuple[Net, Entry]:
    """(Net without weights, Entry tree) of a model's configuration.

    Args:
        document: the parsed JSON of `model_config` or of `config.json`: nested dicts and lists.

    Raises:
        UnsafeNetError: for a layer, a setting or a graph that is not on the allow-list.
    """
    graph = _Graph()
    try:
        check_shared(document)
        root = graph.model(document, prefix="", inputs=None)
        net = Net(_tensorflow_name(root[0].name), graph.layers, tuple(graph.calls), root[1])
        check_shapes(net)
        _check_declared(graph.declared, call_shapes(net))
    except MALFORMED_CONFIG_ERRORS as error:
        raise UnsafeNetError(
            f"its configuration is not one that Keras writes ({type(error).__name__}: "
            f"{str(error)[:60]}); expected a Functional or Sequential model."
        ) from None
    except UnsafeFileError:
        raise
    except ValueError as error:
        raise UnsafeNetError(f"{error}.") from None
    return net, root[0]


class _Graph:
    """Collects the layers and calls of a model, nested models flattened into it."""

    def __init__(self) -> None:
        self.layers: dict[str, LayerSpec] = {}
        self.calls: list[Call] = []
        # (position of a nested model's input, the shape that its configuration declares)
        self.declared: list[tuple[int, Any]] = []

    def model(
        self, document: Any, prefix: str, inputs: tuple[int, ...] | None
    ) -> tuple[Entry, int]:
        """Adds a model called with the positions `inputs`; returns (its Entry, output position)."""
        kind, config = document["class_name"], document["config"]
        if kind not in MODELS:
            raise UnsafeNetError(
                f"its class is {str(kind)[:60]!r}; expected {' or '.join(MODELS[:2])}."
            )
        config = {"layers": config} if isinstance(config, list) else config
        name = plain_name(config.get("name", kind))
        check_keys(document, LAYER_KEYS, f"the model {name!r}")
        check_keys(config, MODEL_KEYS, f"the model {name!r}")
        check_origin(document, kind, name)
        check_dtype(config, f"the model {name!r}")
        kind = "Sequential" if kind == "Sequential" else "Functional"
        # A Sequential that is read again has forgotten that it was frozen as a whole.
        frozen = kind == "Functional" and not _trainable(config, f"the model {name!r}")
        entry = Entry(kind, name, "", not frozen, [])
        add = self._sequential if kind == "Sequential" else self._functional
        return entry, add(config, entry, prefix, inputs)

    def _sequential(
        self, config: Any, entry: Entry, prefix: str, inputs: tuple[int, ...] | None
    ) -> int:
        position = None if inputs is None else inputs[0]
        if position is not None and config.get("build_input_shape") is not None:
            self.declared.append((position, config["build_input_shape"]))
        names: set[str] = set()
        for place, document in enumerate(config["layers"]):
            kind, settings = document["class_name"], _settings(document)
            check_once(settings.get("name"), names)
            shape = _declared_shape(kind, settings)
            if position is None and shape is not None:
                position = self._input(f"{prefix}input", {"batch_input_shape": shape})
            elif position is not None and place == 0 and shape is not None:
                self.declared.append((position, shape))
            if kind == "InputLayer":
                self._check_input(document, place == 0)
                entry.inner.append(Entry(kind, plain_name(settings.get("name")), "", True, []))
                continue
            if position is None and kind in MODELS:
                child, position = self.model(document, self._free(prefix + "model"), None)
            elif position is None:
                raise UnsafeNetError(
                    "its first layer names no input shape; expected a built model."
                )
            else:
                child, call = self._layer(document, prefix)
                position = call((position,))
            entry.inner.append(child)
        if position is None:
            raise UnsafeNetError("it has no layers; expected a built model.")
        return position

    def _functional(
        self, config: Any, entry: Entry, prefix: str, inputs: tuple[int, ...] | None
    ) -> int:
        first, last = (only_end(config[end], end) for end in ("input_layers", "output_layers"))
        pending: list[tuple[str, int, list[tuple[str, int]]]] = []
        called: dict[tuple[str, int], int] = {}
        made: dict[str, Callable[[tuple[int, ...]], int]] = {}
        names: set[str] = set()
        models = {
            _settings(one).get("name") for one in config["layers"] if one["class_name"] in MODELS
        }

        def once(key: tuple[str, int]) -> tuple[str, int]:
            # Keras 2 counts the call that built a nested model, too.
            return (key[0], 0) if key[0] in models else key

        for document in config["layers"]:
            name = _name_in_graph(document, names)
            if document["class_name"] == "InputLayer":
                if name != first[0]:
                    raise UnsafeNetError(f"it has a second input {name!r}; expected one.")
                called[(name, 0)] = self._graph_input(document, prefix, inputs)
                entry.inner.append(Entry("InputLayer", name, "", True, []))
                continue
            child, made[name] = self._layer(document, prefix)
            entry.inner.append(child)
            nodes = [inbound(node, name) for node in document["inbound_nodes"]]
            pending += [(name, index, [*map(once, node)]) for index, node in enumerate(nodes)]
        links = {(name, index): (name, node) for name, index, node in pending}
        links[(first[0], 0)] = (first[0], [])
        self._call_all(pending, called, made)
        _sort_as_keras(entry, links, once(last))
        return called[once(last)]

    def _call_all(self, pending: list, called: dict, made: dict) -> None:
        """Calls all layers; adds the results' positions to `called`."""
        if len(pending) > MAX_LAYERS:
            raise UnsafeNetError(f"its layers are called more than {MAX_LAYERS} times.")
        if sum(len(node) for *_, node in pending) > 10 * MAX_LAYERS:  # each round looks at them
            raise UnsafeNetError(f"its layers take more than {10 * MAX_LAYERS} inputs.")
        while pending:  # layers stand in any order; each round calls those whose inputs are there
            ready = [item for item in pending if all(key in called for key in item[2])]
            if not ready:
                raise UnsafeNetError(f"layer {pending[0][0]!r} waits for inputs that never come.")
            for name, index, node in ready:
                called[(name, index)] = made[name](tuple(called[key] for key in node))
            done = {item[:2] for item in ready}
            pending = [item for item in pending if item[:2] not in done]

    def _layer(self, document: Any, prefix: str) -> tuple[Entry, Callable[[tuple[int, ...]], int]]:
        """Registers a layer; returns its Entry and a function that adds a call of it."""
        if document["class_name"] in MODELS:
            return self._nested(document, prefix)
        kind, config = translate_layer(document["class_name"], document["config"])
        name = plain_name(config.get("name"))
        check_keys(document, LAYER_KEYS, f"layer {name!r}")
        _check_class(document, kind, name)
        try:
            checked = SCHEMAS[kind].checked(config)
        except ValueError as error:
            raise UnsafeNetError(f"layer {name!r} ({kind}), {error}.") from None
        flat = self._free(_tensorflow_name(prefix + name))
        self.layers[flat] = LayerSpec(kind, flat, checked)
        if len(self.layers) > MAX_LAYERS:
            raise UnsafeNetError(f"it has more than {MAX_LAYERS} layers.")

        def call(inputs: tuple[int, ...]) -> int:
            needed = SCHEMAS[kind].inputs
            if (len(inputs) != needed) if needed else (len(inputs) < 2):
                raise UnsafeNetError(f"layer {name!r} ({kind}) has {len(inputs)} inputs.")
            self.calls.append(Call(flat, inputs))
            if len(self.calls) > MAX_LAYERS:
                raise UnsafeNetError(f"its layers are called more than {MAX_LAYERS} times.")
            return len(self.calls) - 1

        return Entry(kind, name, flat, _trainable(config, f"layer {name!r}")), call

    def _nested(self, document: Any, prefix: str) -> tuple[Entry, Callable[[tuple[int, ...]], int]]:
        name = plain_name(document["config"].get("name", "model"))
        entry = Entry(document["class_name"], name, "", True, [])

        def call(inputs: tuple[int, ...]) -> int:
            if entry.children:
                raise UnsafeNetError(
                    f"the model {name!r} inside it is called twice; expected once."
                )
            inner, position = self.model(document, f"{prefix}{name}.", inputs)
            entry.children, entry.trainable = inner.children, inner.trainable
            return position

        return entry, call

    def _graph_input(self, document: Any, prefix: str, inputs: tuple[int, ...] | None) -> int:
        """Position of a Functional model's input: a new one, or what a nested model is given."""
        settings = _settings(document)
        self._check_input(document, not document["inbound_nodes"])
        if not inputs:
            return self._input(f"{prefix}{settings.get('name', document.get('name'))}", settings)
        self.declared.append((inputs[0], _declared_shape("InputLayer", settings)))
        return inputs[0]

    def _check_input(self, document: Any, is_first: bool) -> None:
        """Checks of an input that `SCHEMAS` does not see: where it stands and what it holds."""
        if not is_first:
            raise UnsafeNetError("it has an input behind other layers; expected it in front.")
        check_keys(document, LAYER_KEYS, "its input")
        _check_class(document, "InputLayer", document["config"].get("name"))

    def _input(self, name: str, config: dict[str, Any]) -> int:
        if self.calls:
            raise UnsafeNetError("it has more than one input; expected one.")
        name = self._free(_tensorflow_name(plain_name(name)))
        checked = SCHEMAS["InputLayer"].checked(config)
        self.layers[name] = LayerSpec("InputLayer", name, checked)
        self.calls.append(Call(name, ()))
        return 0

    def _free(self, name: str) -> str:
        """`name`, or with a number behind it where nested models use the same name twice."""
        taken, count = name, 1
        while taken in self.layers:
            taken, count = f"{name}_{count}", count + 1
        return taken


def _check_class(document: Any, kind: Any, name: Any) -> None:
    if kind in ONLY_TRAINING:
        raise UnsafeNetError(
            f"layer {name!r} is a {kind!r} layer, which changes images in training only; save the "
            "model without its augmentation layers (build it from the same layers but those, and "
            "copy the weights), and give that file."
        )
    if kind not in SCHEMAS:
        hint = " (it can hold code)" if kind == "Lambda" else ""
        raise CodeInNetError(
            f"layer {name!r} is a {str(kind)[:60]!r} layer{hint}; only plain layers are accepted: "
            f"{', '.join(SCHEMAS)}."
        )
    check_origin(document, kind, name)
    check_dtype(document["config"], f"layer {name!r}")


def check_origin(document: Any, kind: Any, name: Any) -> None:
    """Refuses a layer or a model that says it is somebody else's of the same name."""
    module = document.get("module") or "keras.layers"
    registered = document.get("registered_name")
    if not _MODULES.fullmatch(module) or registered not in (None, kind):
        raise CodeInNetError(
            f"layer {name!r} says it is {str(registered or kind)[:60]!r} of {module[:60]!r}; "
            "only Keras' own layers are accepted."
        )


def check_dtype(config: Any, what: str) -> None:
    """Refuses every precision but `float32`: others overflow and round where this does not."""
    dtype = config.get("dtype")
    if isinstance(dtype, dict):
        about = dtype["config"]
        plain = dtype["class_name"] in _POLICIES and not set(about) - {"name", "source_name"}
        dtype = about.get("name", dtype["class_name"]) if plain else dtype["class_name"]
    if dtype not in (None, "float32"):
        raise UnsafeNetError(
            f"{what} computes in {str(dtype)[:40]!r}, which gives other answers than 'float32'; "
            "expected 'float32': ask for the net as it was before it was converted."
        )


def _trainable(config: Any, what: str) -> bool:
    value = config.get("trainable", True)
    if value not in (True, False, None) or isinstance(value, float):
        raise UnsafeNetError(f"{what} is trainable: {str(value)[:40]!r}; expected true or false.")
    return value is None or bool(value)


def check_keys(document: Any, known: Container[str], what: str) -> None:
    odd = [key for key in document if key not in known]
    if odd:
        raise UnsafeNetError(
            f"{what} has {str(odd[0])[:60]!r} in its configuration, which is not read; expected "
            "what Keras writes."
        )


def _sort_as_keras(entry: Entry, links: Mapping, output: Any) -> None:
    """Sorts a model's layers as Keras numbers them.

    Raises:
        UnsafeNetError: one does not lead to the output; Keras neither numbers nor saves such.
    """
    order, used = keras_order(links, output)
    idle = [child.name for child in entry.inner if child.name not in order]
    idle += [name for name, index in links if (name, index) not in used]
    if idle:
        raise UnsafeNetError(
            f"layer {idle[0]!r}, or a call of it, does not lead to the output; expected a net as "
            "Keras saves it."
        )
    places = {name: place for place, name in enumerate(order)}
    entry.inner.sort(key=lambda child: places[child.name])


def _name_in_graph(document: Any, names: set[str]) -> str:
    """A layer's name, if both that it has are one and it is not among `names` yet."""
    settings = _settings(document)
    name = document.get("name", settings.get("name"))
    check_once(name, names)
    if settings.get("name", name) != name:
        raise UnsafeNetError(
            f"a layer is called {str(name)[:60]!r} and {str(settings['name'])[:60]!r}; expected "
            "one name."
        )
    return name


def check_once(name: Any, names: set[str]) -> None:
    if plain_name(name) in names:
        raise UnsafeNetError(f"two of its layers are called {str(name)[:60]!r}; expected one each.")
    names.add(name)


def check_shared(document: Any) -> None:
    """Refuses objects that share an identity and differ: Keras reads the first in place of all."""
    seen: dict[str, dict] = {}
    waiting = [document]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict) and one.get("shared_object_id") is not None:
            about = {key: one.get(key) for key in ("class_name", "config", "module")}
            if seen.setdefault(str(one["shared_object_id"]), about) != about:
                raise UnsafeNetError(
                    f"its configuration gives two objects the identity {one['shared_object_id']!r};"
                    " expected one each."
                )
        if isinstance(one, dict | list):
            waiting += one.values() if isinstance(one, dict) else one


def _check_declared(declared: list[tuple[int, Any]], shapes: Sequence[tuple[int, ...]]) -> None:
    """Refuses a nested model that says it takes other shapes than it gets: Keras would adapt."""
    for position, shape in declared:
        own = tuple((shape["items"] if isinstance(shape, dict) else shape)[1:])
        fits = len(own) == len(shapes[position]) and all(
            size in (None, real) for size, real in zip(own, shapes[position], strict=True)
        )
        if not fits:
            raise UnsafeNetError(
                f"a model inside it says that it takes {own}, but gets {shapes[position]}; "
                "expected the same."
            )


def _settings(document: Any) -> dict[str, Any]:
    """A layer's `config`; a function's or a class' document has a name there."""
    if not isinstance(document["config"], dict):
        raise CodeInNetError(
            f"{str(document['config'])[:60]!r} of {str(document.get('module'))[:60]!r} stands "
            "where a layer was expected."
        )
    return document["config"]


def plain_name(name: Any) -> str:
    """`name`, if it is a short one of letters, numbers and `_ . - / :`; it is never a path."""
    if not isinstance(name, str) or not re.fullmatch(r"[\w.\-/:]{1,150}", name) or ".." in name:
        raise UnsafeNetError(f"a layer's name is {str(name)[:60]!r}; expected letters and numbers.")
    return name


def _tensorflow_name(name: str) -> str:
    """`name`, or one like it that TensorFlow takes: others end in its own errors much later."""
    plain = re.sub(r"[^A-Za-z0-9_.\-]", "_", name.replace("/", "."))
    return plain if plain[0].isalnum() else f"layer{plain}"


def _declared_shape(kind: Any, settings: Any) -> Any:
    if kind in MODELS:
        return None
    keys = ("batch_shape", "batch_input_shape")
    found = [settings[key] for key in keys if settings.get(key) is not None]
    if len(found) > 1:
        raise UnsafeNetError("its input shape came twice, by different names; expected it once.")
    return found[0] if found else None


def only_end(ends: Any, what: str) -> tuple[str, int]:
    """The one (layer name, node index) of `input_layers` or `output_layers`."""
    if ends and isinstance(ends[0], str):
        ends = [ends]
    if len(ends) != 1 or ends[0][2] != 0:
        raise UnsafeNetError(f"it has {len(ends)} {what.replace('_', ' ')}; expected one.")
    return ends[0][0], ends[0][1]


def inbound(node: Any, name: str) -> list[tuple[str, int]]:
    """The (layer name, node index) pairs that one call takes, in Keras 1/2's or Keras 3's form."""
    if isinstance(node, dict):
        args, kwargs = node["args"], node["kwargs"]
        tensors = args[0] if len(args) == 1 and isinstance(args[0], list) else args
        if not all(isinstance(tensor, dict) for tensor in tensors):
            raise UnsafeNetError(
                f"layer {name!r} takes {str(tensors)[-60:]}; expected layers' results."
            )
        sources = [tensor["config"]["keras_history"] for tensor in tensors]
    else:
        node = [node] if isinstance(node[0], str) else node
        sources = [source[:3] for source in node]
        kwargs = {
            key: v for source in node for key, v in (source[3] if len(source) > 3 else {}).items()
        }
    if any(value not in (None, False) for value in kwargs.values()) or set(kwargs) - {
        "training",
        "mask",
    }:
        raise UnsafeNetError(
            f"layer {name!r} is called with {str(kwargs)[:60]}; expected plain calls."
        )
    if any(source[2] != 0 for source in sources):
        raise UnsafeNetError(
            f"layer {name!r} takes a second result of a layer; expected the only one."
        )
    return [(source[0], source[1]) for source in sources]
