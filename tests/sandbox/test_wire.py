"""A net as plain values and arrays: the same net again, and nothing of it believed."""

import json

import numpy as np
import pytest
from hostile_nets import plain_net, same_net
from many_nets import all_kinds_net, frozen_net, nested_net, shared_layer_net

from badnet_defense.errors import UnsafeNetError
from badnet_defense.nets import describe
from badnet_defense.sandbox.serialize import deserialize_net, serialize_net


@pytest.mark.parametrize(
    "make", [all_kinds_net, nested_net, shared_layer_net, frozen_net, plain_net]
)
def test_every_kind_of_net_comes_through_the_wire(make):
    spec = describe(make())
    plain, arrays = serialize_net(spec)
    assert same_net(deserialize_net(json.loads(json.dumps(plain)), arrays), spec)


@pytest.fixture
def wire():
    plain, arrays = serialize_net(describe(plain_net()))
    return json.loads(json.dumps(plain)), arrays


def changed(place, value):
    def change(plain, arrays):
        *path, last = place
        node = plain
        for part in path:
            node = node[part]
        node[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        changed(["layers", 1, 0], "Lambda"),
        changed(["layers", 1, 1], "../x"),
        changed(["layers", 1, 2, "filters"], 10**9),
        changed(["layers", 1, 2, "module"], "os"),
        changed(["layers", 1], ["Flatten", "conv", {}]),
        changed(["calls", 1, 1], [1]),
        changed(["calls", 1, 1], [-1]),
        changed(["calls", 1, 1], []),
        changed(["calls", 1, 0], "nobody"),
        changed(["calls", 0, 0], "conv"),
        changed(["calls"], []),
        changed(["output"], 99),
        changed(["output"], "1"),
        changed(["attributes"], {"note": {}}),
        changed(["name"], 5),
        lambda plain, arrays: arrays.pop(),
        lambda plain, arrays: arrays.__setitem__(0, arrays[0][:1]),
        lambda plain, arrays: arrays.__setitem__(0, arrays[0] * np.nan),
        lambda plain, arrays: plain.pop("calls"),
    ],
)
def test_a_net_from_a_reader_is_not_believed(wire, change):
    plain, arrays = wire
    change(plain, arrays)
    with pytest.raises(UnsafeNetError):
        deserialize_net(plain, arrays)
