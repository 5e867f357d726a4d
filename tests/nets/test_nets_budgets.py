"""What a net of a kilobyte may cost: refused while it is read, or run within bounds."""

import tracemalloc

import numpy as np
import pytest

from badnet_defense.errors import TooLargeError
from badnet_defense.nets.layers import SCHEMAS
from badnet_defense.nets.net import Call, LayerSpec, Net, call_shapes
from badnet_defense.nets.shapes import (
    BYTES_AT_ONCE,
    MULTIPLICATIONS_AT_ONCE,
    check_shapes,
    cost,
    images_at_once,
)


def chain(shape, *layers):
    """A `Net` of layers (kind, settings) in a row, without weights."""
    made = {"input": LayerSpec("InputLayer", "input", {"shape": shape})}
    for number, (kind, settings) in enumerate(layers):
        made[f"{kind}_{number}"] = LayerSpec(
            kind, f"{kind}_{number}", SCHEMAS[kind].checked(settings)
        )
    calls = tuple(Call(name, (place - 1,) if place else ()) for place, name in enumerate(made))
    return Net("net", made, calls, len(calls) - 1)


def filled(spec):
    """`spec` with small weights everywhere."""
    shapes, layers = call_shapes(spec), {}
    for call in spec.calls[1:]:
        layer = spec.layers[call.layer]
        inputs = [shapes[source] for source in call.inputs]
        named = SCHEMAS[layer.kind].weight_shapes(layer.config, inputs)
        weights = tuple(np.full(shape, 0.01, np.float32) for shape in named.values())
        layers[call.layer] = LayerSpec(layer.kind, layer.name, layer.config, weights)
    return Net(spec.name, {**spec.layers, **layers}, spec.calls, spec.output)


END = [("GlobalAveragePooling2D", {}), ("Dense", {"units": 3, "activation": "softmax"})]
BIG = (2048, 2048, 3)
HOSTILE = {
    "pooling windows": [("MaxPooling2D", {"pool_size": 2000, "strides": 1, "padding": "same"})],
    "average windows": [("AveragePooling2D", {"pool_size": 999, "strides": 1, "padding": "same"})],
    "convolution windows": [("Conv2D", {"filters": 1, "kernel_size": 300, "padding": "same"})],
    "depthwise windows": [("DepthwiseConv2D", {"kernel_size": 301, "padding": "same"})],
    "separable windows": [("SeparableConv2D", {"filters": 1, "kernel_size": 301})],
    "many results": [("ReLU", {})] * 39,
    "many channels between": [
        ("SeparableConv2D", {"filters": 1, "kernel_size": 1, "depth_multiplier": 9})
    ],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nets_that_cost_too_much_are_refused_while_they_are_read(name):
    with pytest.raises(TooLargeError, match=r"takes too (much memory|long)"):
        check_shapes(chain(BIG, *HOSTILE[name], *END))


def test_the_cost_of_a_net_by_hand():
    spec = chain(
        (6, 5, 2),
        ("Conv2D", {"filters": 4, "kernel_size": (3, 2)}),
        ("MaxPooling2D", {}),
        ("Flatten", {}),
        ("Dense", {"units": 3}),
    )
    found = cost(spec)
    # 4x4x4 sums of 3x2x2 products; 2x2x4 windows of 4; laid out anew: 16; 16 times 3.
    assert found.multiplications == 64 * 12 + 16 * 4 + 16 + 48
    assert found.together == 60 + 64 + 16 + 16 + 3
    # While the convolution runs: its input, its result and as much again.
    assert found.peak == 60 + 64 + 64


def test_as_many_images_at_once_as_memory_and_patience_allow():
    small, large = chain((8, 8, 3), *END), chain((1024, 1024, 3), ("ReLU", {}), *END)
    assert images_at_once(small, 512) == 512
    assert 1 <= images_at_once(large, 512) <= BYTES_AT_ONCE // (4 * 3 * 1024 * 1024 * 2)
    slow = chain((1000, 1000, 3), ("Conv2D", {"filters": 1, "kernel_size": 51}), *END)
    assert images_at_once(slow, 512) <= MULTIPLICATIONS_AT_ONCE // cost(slow).multiplications


@pytest.mark.parametrize(
    "layers",
    [
        [("MaxPooling2D", {"pool_size": 200, "strides": 1, "padding": "same"})],
        [("AveragePooling2D", {"pool_size": 200, "strides": 1, "padding": "same"})],
        [("Conv2D", {"filters": 2, "kernel_size": 21, "padding": "same"})],
        [("DepthwiseConv2D", {"kernel_size": 3, "dilation_rate": 60, "padding": "same"})],
        [("ReLU", {})] * 30,
    ],
)
def test_what_numpy_takes_on_the_way_is_what_the_budget_says(layers):
    spec = filled(chain((160, 160, 3), *layers, *END))
    check_shapes(spec)
    pictures = np.random.default_rng(0).random((2, 160, 160, 3), dtype=np.float32)
    tracemalloc.start()
    spec.numpy_proba(pictures)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Whole numbers and truth values of one step stand beside its result.
    assert most < 2 * 4 * len(pictures) * cost(spec).peak + 2**20


def test_a_large_pool_and_a_far_dilation_by_hand():
    ramp = np.arange(12, dtype=np.float32).reshape(1, 3, 4, 1)
    pool = {"pool_size": (9, 9), "strides": 1, "padding": "same"}
    largest = SCHEMAS["MaxPooling2D"]
    assert (largest.forward(largest.checked(pool), (), [ramp]) == 11).all()
    mean = SCHEMAS["AveragePooling2D"]
    np.testing.assert_allclose(mean.forward(mean.checked(pool), (), [ramp]), 5.5)
    conv = SCHEMAS["Conv2D"]
    far = conv.checked({"filters": 1, "kernel_size": 3, "dilation_rate": 50, "padding": "same"})
    kernel = np.arange(9, dtype=np.float32).reshape(3, 3, 1, 1)  # only its middle meets the image
    result = conv.forward(far, (kernel, np.zeros(1, np.float32)), [ramp])
    np.testing.assert_allclose(result, 4 * ramp)
