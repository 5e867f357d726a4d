"""Reads the configuration of a Keras model as data, checking every layer against the allow-list."""

import re
from dataclasses import dataclass

from badnet_defense.errors import CodeInNetError, UnsafeFileError, UnsafeNetError
from badnet_defense.nets.keras1 import translate_layer
from badnet_defense.nets.kinds import KINDS
from badnet_defense.nets.shapes import check_shapes
from badnet_defense.nets.spec import Call, LayerSpec, NetSpec

MODELS = ("Functional", "Sequential", "Model")
MOST_LAYERS = 2000
_STRANGE = (KeyError, TypeError, IndexError, AttributeError, RecursionError, OverflowError)
_FLOATS = ("float32", "float16", "float64", "bfloat16", "mixed_float16", "mixed_bfloat16")


@dataclass
class Entry:
    """A layer as it stands in the file: where its weights are found.

    Args:
        kind: its class name in the file.
        name: its name in the file.
        flat: its name in the flattened net.
        trainable: False where it was frozen (older files store frozen weights last).
        children: the layers of a nested model, in the file's order; None for a plain layer.
    """

    kind: str
    name: str
    flat: str
    trainable: bool
    children: list | None = None

    def leaves(self):
        """The plain layers in it, in the file's order."""
        if self.children is None:
            return [self]
        return [leaf for child in self.children for leaf in child.leaves()]


def parse_model(document):
    """(NetSpec without weights, Entry tree) of a model's configuration.

    Args:
        document: the parsed JSON of `model_config` or of `config.json`: nested dicts and lists.

    Raises:
        UnsafeNetError: for a layer, a setting or a graph that is not on the allow-list.
    """
    graph = _Graph()
    try:
        root = graph.model(document, prefix="", inputs=None)
        spec = NetSpec(root[0].name.replace("/", "."), graph.layers, tuple(graph.calls), root[1])
        check_shapes(spec)
    except _STRANGE as error:
        raise UnsafeNetError(
            f"its configuration is not one that Keras writes ({type(error).__name__}: "
            f"{str(error)[:60]}); expected a Functional or Sequential model."
        ) from None
    except UnsafeFileError:
        raise
    except ValueError as error:
        raise UnsafeNetError(f"{error}.") from None
    return spec, root[0]


class _Graph:
    """Collects the layers and calls of a model, nested models flattened into it."""

    def __init__(self):
        self.layers, self.calls = {}, []

    def model(self, document, prefix, inputs):
        """Adds a model called with the positions `inputs`; returns (its Entry, output position)."""
        kind, config = document["class_name"], document["config"]
        if kind not in MODELS:
            raise UnsafeNetError(
                f"its class is {str(kind)[:60]!r}; expected {' or '.join(MODELS[:2])}."
            )
        config = {"layers": config} if isinstance(config, list) else config
        entry = Entry(
            kind, plain_name(config.get("name", kind)), "", config.get("trainable", True), []
        )
        add = self._sequential if kind == "Sequential" else self._functional
        return entry, add(config, entry, prefix, inputs)

    def _sequential(self, config, entry, prefix, inputs):
        position = None if inputs is None else inputs[0]
        for document in config["layers"]:
            kind, settings = document["class_name"], _settings(document)
            shape = _declared_shape(kind, settings)
            if position is None and shape is not None:
                position = self._input(f"{prefix}input", {"batch_input_shape": shape})
            if kind == "InputLayer":
                entry.children.append(Entry(kind, plain_name(settings.get("name")), "", True, []))
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
            entry.children.append(child)
        return position

    def _functional(self, config, entry, prefix, inputs):
        first, last = (_only_end(config[end], end) for end in ("input_layers", "output_layers"))
        pending, called, made = [], {}, {}
        models = {
            _settings(one).get("name") for one in config["layers"] if one["class_name"] in MODELS
        }

        def once(key):  # Keras 2 counts the call that built a nested model too
            return (key[0], 0) if key[0] in models else key

        for document in config["layers"]:
            kind, settings = document["class_name"], _settings(document)
            name = document.get("name", settings.get("name"))
            if kind == "InputLayer":
                if name != first[0]:
                    raise UnsafeNetError(f"it has a second input {name!r}; expected one.")
                position = inputs[0] if inputs else self._input(prefix + name, document["config"])
                called[(name, 0)] = position
                entry.children.append(Entry(kind, name, "", True, []))
                continue
            child, made[name] = self._layer(document, prefix)
            entry.children.append(child)
            nodes = [_inbound(node, name) for node in document["inbound_nodes"]]
            pending += [(name, index, [*map(once, node)]) for index, node in enumerate(nodes)]
        if len(pending) > MOST_LAYERS:
            raise UnsafeNetError(f"its layers are called more than {MOST_LAYERS} times.")
        if sum(len(node) for *_, node in pending) > 10 * MOST_LAYERS:  # each round looks at them
            raise UnsafeNetError(f"its layers take more than {10 * MOST_LAYERS} inputs.")
        while pending:  # layers stand in any order; each round calls those whose inputs are there
            ready = [item for item in pending if all(key in called for key in item[2])]
            if not ready:
                raise UnsafeNetError(f"layer {pending[0][0]!r} waits for inputs that never come.")
            for name, index, node in ready:
                called[(name, index)] = made[name](tuple(called[key] for key in node))
            done = {item[:2] for item in ready}
            pending = [item for item in pending if item[:2] not in done]
        return called[once(last)]

    def _layer(self, document, prefix):
        """Registers a layer; returns its Entry and a function that adds a call of it."""
        if document["class_name"] in MODELS:
            return self._nested(document, prefix)
        kind, config = translate_layer(document["class_name"], document["config"])
        name = plain_name(config.get("name"))
        _check_class(document, kind, name)
        try:
            checked = KINDS[kind].checked(config)
        except ValueError as error:
            raise UnsafeNetError(f"layer {name!r} ({kind}), {error}.") from None
        flat = self._free(prefix + name.replace("/", "."))
        self.layers[flat] = LayerSpec(kind, flat, checked)
        if len(self.layers) > MOST_LAYERS:
            raise UnsafeNetError(f"it has more than {MOST_LAYERS} layers.")

        def call(inputs):
            needed = KINDS[kind].inputs
            if (len(inputs) != needed) if needed else (len(inputs) < 2):
                raise UnsafeNetError(f"layer {name!r} ({kind}) has {len(inputs)} inputs.")
            self.calls.append(Call(flat, inputs))
            if len(self.calls) > MOST_LAYERS:
                raise UnsafeNetError(f"its layers are called more than {MOST_LAYERS} times.")
            return len(self.calls) - 1

        return Entry(kind, name, flat, bool(config.get("trainable", True))), call

    def _nested(self, document, prefix):
        name = plain_name(document["config"].get("name", "model"))
        entry = Entry(document["class_name"], name, "", True, [])

        def call(inputs):
            if entry.children:
                raise UnsafeNetError(
                    f"the model {name!r} inside it is called twice; expected once."
                )
            inner, position = self.model(document, f"{prefix}{name}.", inputs)
            entry.children, entry.trainable = inner.children, inner.trainable
            return position

        return entry, call

    def _input(self, name, config):
        if self.calls:
            raise UnsafeNetError("it has more than one input; expected one.")
        name = self._free(plain_name(name).replace("/", "."))
        checked = KINDS["InputLayer"].checked(config)
        self.layers[name] = LayerSpec("InputLayer", name, checked)
        self.calls.append(Call(name, ()))
        return 0

    def _free(self, name):
        """`name`, or with a number behind it where nested models use the same name twice."""
        taken, count = name, 1
        while taken in self.layers:
            taken, count = f"{name}_{count}", count + 1
        return taken


def _check_class(document, kind, name):
    if kind not in KINDS:
        hint = " (it can hold code)" if kind == "Lambda" else ""
        raise CodeInNetError(
            f"layer {name!r} is a {str(kind)[:60]!r} layer{hint}; only plain layers are accepted: "
            f"{', '.join(KINDS)}."
        )
    module = document.get("module") or "keras.layers"
    registered = document.get("registered_name")
    if module.split(".")[0] not in ("keras", "tf_keras", "tensorflow") or registered not in (
        None,
        kind,
    ):
        raise CodeInNetError(
            f"layer {name!r} says it is {str(registered or kind)[:60]!r} of {module[:60]!r}; "
            "only Keras' own layers are accepted."
        )
    dtype = document["config"].get("dtype")
    if isinstance(dtype, dict):
        dtype = dtype["config"]["name"]
    if dtype is not None and dtype not in _FLOATS:
        raise CodeInNetError(f"layer {name!r} has the dtype {str(dtype)[:40]!r}; expected a float.")


def _settings(document):
    """A layer's `config`; a function's or a class' document has a name there."""
    if not isinstance(document["config"], dict):
        raise CodeInNetError(
            f"{str(document['config'])[:60]!r} of {str(document.get('module'))[:60]!r} stands "
            "where a layer was expected."
        )
    return document["config"]


def plain_name(name):
    """`name`, if it is a short one of letters, numbers and `_ . - / :`; it is never a path."""
    if not isinstance(name, str) or not re.fullmatch(r"[\w.\-/:]{1,150}", name) or ".." in name:
        raise UnsafeNetError(f"a layer's name is {str(name)[:60]!r}; expected letters and numbers.")
    return name


def _declared_shape(kind, settings):
    for key in ("batch_shape", "batch_input_shape"):
        if settings.get(key) is not None and kind not in MODELS:
            return settings[key]
    return None


def _only_end(ends, what):
    """The one (layer name, node index) of `input_layers` or `output_layers`."""
    if ends and isinstance(ends[0], str):
        ends = [ends]
    if len(ends) != 1 or ends[0][2] != 0:
        raise UnsafeNetError(f"it has {len(ends)} {what.replace('_', ' ')}; expected one.")
    return ends[0][0], ends[0][1]


def _inbound(node, name):
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
