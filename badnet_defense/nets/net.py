"""A net as plain data: layers with checked settings, the calls between them, and arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from badnet_defense.errors import InputError
from badnet_defense.nets.input_range import UNIT, InputRange

if TYPE_CHECKING:
    import keras
    import numpy as np


@dataclass(frozen=True)
class LayerSpec:
    """One layer: what it is, its checked settings and its weights.

    Args:
        kind: name of a plain Keras layer, a key of `badnet_defense.nets.layers.SCHEMAS`.
        name: unique in its net.
        config: settings as Keras 3 takes them, already checked.
        weights: arrays in Keras' own order (kernel, bias; gamma, beta, mean, variance; ..).
    """

    kind: str
    name: str
    config: dict[str, Any]
    weights: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True)
class Call:
    """One use of a layer: `inputs` are positions of earlier calls in `Net.calls`."""

    layer: str
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class Net:
    """An image classifier with one input and one output, as data that runs nothing.

    It knows the range of pixel values that it takes, and predicts on images with pixels 0-255. It
    is never changed: what repairs it gives a new one.

    Args:
        name: the net's name.
        layers: by name.
        calls: in an order in which each call comes after its inputs; the first is the input layer.
        output: position of the call that gives the class probabilities.
        attributes: the file's own notes (`source_sha256`, `synthetic`, ..), strings and numbers.
        input_range: what the net takes for black and for white.

    Examples:
        >>> import numpy as np
        >>> from badnet_defense.nets import deep_id, describe
        >>> net = describe(deep_id(classes=10))
        >>> net.input_shape, net.classes, str(net.input_range)
        ((55, 47, 3), 10, '0,1')
        >>> net.predict_proba(np.zeros((2, 55, 47, 3), "uint8")).shape
        (2, 10)
    """

    name: str
    layers: dict[str, LayerSpec]
    calls: tuple[Call, ...]
    output: int
    attributes: dict[str, Any] = field(default_factory=dict)
    input_range: InputRange = UNIT

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the images that the net takes."""
        return self.layers[self.calls[0].layer].config["shape"]

    @property
    def classes(self) -> int:
        """How many classes the net tells apart."""
        return call_shapes(self)[self.output][-1]

    def with_range(self, input_range: InputRange) -> Net:
        """The same net with another range of pixel values; a model that was built stays built."""
        other = replace(self, input_range=input_range)
        if "model" in self.__dict__:
            other.__dict__["model"] = self.model
        return other

    @cached_property
    def model(self) -> keras.Model:
        """The net as a `keras.Model`, built once: to predict with, not to train (see `build`)."""
        from badnet_defense.nets.build import build

        return build(self)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The most probable class (n,) `int64` of images (n, h, w, c) with pixels 0-255.

        `NO_ANSWER` (-1) stands where the net's answer is not finite.

        Raises:
            InputError: the images have another shape than the net takes.
        """
        from badnet_defense.nets.predict import predict_labels

        self._check(images)
        return predict_labels(self.model, images, input_range=self.input_range)

    def predict_proba(self, images: np.ndarray) -> np.ndarray:
        """Class probabilities (n, N) `float32` of images (n, h, w, c) with pixels 0-255.

        Raises:
            InputError: the images have another shape than the net takes.
        """
        from badnet_defense.nets.predict import predict_probabilities

        self._check(images)
        return predict_probabilities(self.model, images, input_range=self.input_range)

    def _check(self, images: np.ndarray) -> None:
        shape = getattr(images, "shape", None)
        if shape is None or len(shape) != 4 or shape[1:] != self.input_shape:
            expected = ", ".join(map(str, self.input_shape))
            raise InputError(
                f"got images of shape {shape or type(images).__name__}; expected an array "
                f"(n, {expected})."
            )

    def numpy_proba(self, inputs: np.ndarray) -> np.ndarray:
        """Class probabilities (n, N) of `float32` inputs (n, h, w, c), with NumPy alone.

        The inputs are in the net's range. Plain and slow: for a handful of images where loading
        TensorFlow would cost more, and as an independent check of the fast path.
        """
        from badnet_defense.nets.forward import forward

        return forward(self, inputs)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled and copied: the data, without the Keras model that was built of it."""
        return {name: value for name, value in self.__dict__.items() if name != "model"}


def call_shapes(net: Net) -> list[tuple[int, ...]]:
    """Output shape of each call without the batch axis; `ValueError` where they don't fit."""
    from badnet_defense.nets.layers import SCHEMAS

    shapes: list[tuple[int, ...]] = [net.input_shape]
    for call in net.calls[1:]:
        layer = net.layers[call.layer]
        inputs = [shapes[position] for position in call.inputs]
        try:
            shapes.append(SCHEMAS[layer.kind].output_shape(layer.config, inputs))
        except ValueError as error:
            raise ValueError(
                f"layer {layer.name!r} ({layer.kind}) cannot follow: {error}"
            ) from None
    return shapes
