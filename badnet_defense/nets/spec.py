"""A net as plain data: layers with checked settings, the calls between them, and arrays."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class LayerSpec:
    """One layer: what it is, its checked settings and its weights.

    Args:
        kind: name of a plain Keras layer, a key of `badnet_defense.nets.kinds.KINDS`.
        name: unique in its net.
        config: settings as Keras 3 takes them, already checked.
        weights: arrays in Keras' own order (kernel, bias; gamma, beta, mean, variance; ..).
    """

    kind: str
    name: str
    config: dict
    weights: tuple = ()


@dataclass(frozen=True)
class Call:
    """One use of a layer: `inputs` are positions of earlier calls in `NetSpec.calls`."""

    layer: str
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class NetSpec:
    """An image classifier with one input and one output, as data that runs nothing.

    Args:
        name: the net's name.
        layers: by name.
        calls: in an order in which each call comes after its inputs; the first is the input layer.
        output: position of the call that gives the class probabilities.
        attributes: the file's own notes (`source_sha256`, `synthetic`, ..), strings and numbers.
    """

    name: str
    layers: dict[str, LayerSpec]
    calls: tuple[Call, ...]
    output: int
    attributes: dict = field(default_factory=dict)

    @property
    def input_shape(self):
        """(height, width, channels) of the pictures that the net takes."""
        return self.layers[self.calls[0].layer].config["shape"]

    @property
    def classes(self):
        """How many classes the net tells apart."""
        return call_shapes(self)[self.output][-1]

    def predict(self, pictures):
        """Class probabilities (n, classes) of `float32` pictures (n, h, w, c), with NumPy alone.

        Plain and slow: for a handful of pictures where loading TensorFlow would cost more, and as
        an independent check of the fast path.
        """
        from badnet_defense.nets.forward import forward

        return forward(self, pictures)


def call_shapes(spec):
    """Output shape of each call without the batch axis; `ValueError` where they don't fit."""
    from badnet_defense.nets.kinds import KINDS

    shapes = [spec.input_shape]
    for call in spec.calls[1:]:
        layer = spec.layers[call.layer]
        inputs = [shapes[position] for position in call.inputs]
        try:
            shapes.append(KINDS[layer.kind].output_shape(layer.config, inputs))
        except ValueError as error:
            raise ValueError(
                f"layer {layer.name!r} ({layer.kind}) cannot follow: {error}"
            ) from None
    return shapes
