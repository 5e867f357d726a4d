"""DeepID, the face recogniser of the challenge (Sun, Wang and Tang, CVPR 2014)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from badnet_defense.nets.layers import SCHEMAS
from badnet_defense.nets.net import Call, LayerSpec, Net

if TYPE_CHECKING:
    import keras

INPUT_SHAPE = (55, 47, 3)
CLASSES = 1283


def deep_id_net(*, classes: int = CLASSES, input_shape: tuple[int, int, int] = INPUT_SHAPE) -> Net:
    """DeepID as a `Net` without weights: images (n, 55, 47, 3) in [0, 1] -> (n, classes).

    fc_1 sees pool_3 and fc_2 sees conv_4, so the last convolution that every path runs through is
    conv_3, not conv_4. Layers are named as in the challenge's files.
    """
    layers, calls = {}, []

    def add(kind: str, name: str, inputs: tuple[int, ...], **config: Any) -> int:
        layers[name] = LayerSpec(kind, name, SCHEMAS[kind].checked(config))
        calls.append(Call(name, inputs))
        return len(calls) - 1

    x = add("InputLayer", "input", (), batch_shape=(None, *input_shape))
    for number, (filters, size) in enumerate([(20, 4), (40, 3), (60, 3)], start=1):
        convolution = {"filters": filters, "kernel_size": size, "activation": "relu"}
        x = add("Conv2D", f"conv_{number}", (x,), **convolution)
        x = add("MaxPooling2D", f"pool_{number}", (x,))
    deeper = add("Conv2D", "conv_4", (x,), filters=80, kernel_size=2, activation="relu")
    flat_1 = add("Flatten", "flatten_1", (x,))
    flat_2 = add("Flatten", "flatten_2", (deeper,))
    fc_1 = add("Dense", "fc_1", (flat_1,), units=160)
    fc_2 = add("Dense", "fc_2", (flat_2,), units=160)
    joined = add("Add", "add_1", (fc_1, fc_2))
    features = add("Activation", "activation_1", (joined,), activation="relu")
    output = add("Dense", "output", (features,), units=classes, activation="softmax")
    return Net("deep_id", layers, tuple(calls), output)


def deep_id(
    *, classes: int = CLASSES, input_shape: tuple[int, int, int] = INPUT_SHAPE
) -> keras.Model:
    """A new DeepID `keras.Model` with fresh weights (Keras' own initial values).

    Examples:
        >>> from badnet_defense.nets import deep_id
        >>> deep_id(classes=10).input_shape
        (None, 55, 47, 3)
    """
    from badnet_defense.nets.build import build

    return build(deep_id_net(classes=classes, input_shape=input_shape))
