"""Files whose configuration names code."""

import json

from hostile_base import attack, become, h5_net, keras_net, layer

from badnet_defense.errors import (
    CodeInNetError,
    UnsafeNetError,
)


def _lambda(marker):
    """A Lambda's configuration as Keras writes it: marshalled bytecode that leaves the marker."""
    from keras.src.utils import python_utils

    code = eval(f"lambda x: (open({str(marker)!r}, 'w').close(), x)[1]")
    dumped = {
        "class_name": "__lambda__",
        "config": dict(
            zip(("code", "defaults", "closure"), python_utils.func_dump(code), strict=True)
        ),
    }
    return {"function": dumped, "arguments": {}}


@attack("Lambda with bytecode, .h5", CodeInNetError, for_keras=True)
def lambda_in_h5(folder, marker):
    return h5_net(folder, become("Lambda", _lambda(marker)))


@attack("Lambda with bytecode, .keras", CodeInNetError, for_keras=True)
def lambda_in_keras(folder, marker):
    return keras_net(folder, become("Lambda", _lambda(marker)))


@attack("Lambda inside a nested model", CodeInNetError, for_keras=True)
def lambda_in_nested_model(folder, marker):
    def change(document):
        inner = json.loads(json.dumps(document))
        become("Lambda", _lambda(marker))(inner)
        inner["config"]["name"] = "inner"
        place = document["config"]["layers"]
        place.insert(1, inner if "name" in inner else {**inner, "name": "inner"})

    return h5_net(folder, change)


@attack("Lambda wrapped in another layer", CodeInNetError, for_keras=True)
def lambda_in_a_wrapper(folder, marker):
    inner = {"class_name": "Lambda", "module": "keras.layers", "registered_name": None}
    inner["config"] = {"name": "inner", **_lambda(marker)}
    return keras_net(folder, become("TimeDistributed", {"layer": inner}))


@attack("any function of any module as a layer (CVE-2025-1550)", CodeInNetError, for_keras=True)
def module_function_as_layer(folder, marker):
    def change(document):
        old = layer(document, 2)
        old.update(class_name="function", module="os", registered_name="mkdir")
        old["config"] = "mkdir"
        old["inbound_nodes"] = [{"args": [str(marker)], "kwargs": {}}]

    return keras_net(folder, change)


@attack("a function of Keras' own with side effects (CVE-2025-8747)", CodeInNetError,
        for_keras=True)  # fmt: skip
def get_file_as_layer(folder, marker):
    source = folder / "payload"
    source.write_text("x")

    def change(document):
        old = layer(document, 2)
        old.update(class_name="function", module="keras.utils", registered_name="get_file")
        old["config"] = "get_file"
        where = {"fname": str(marker), "origin": source.as_uri()}
        old["inbound_nodes"] = [{"args": [], "kwargs": where}]

    return keras_net(folder, change)


@attack("a function named as an activation", UnsafeNetError, for_keras=True)
def function_as_activation(folder, marker):
    def change(document):
        layer(document)["config"]["activation"] = {
            "class_name": "function", "module": "os", "registered_name": "mkdir",
            "config": "mkdir",
        }  # fmt: skip

    return keras_net(folder, change)


@attack("a Lambda as a convolution's activation", UnsafeNetError, for_keras=True)
def lambda_as_activation(folder, marker):
    def change(document):
        layer(document)["config"]["activation"] = {
            "class_name": "__lambda__", "config": _lambda(marker)["function"]["config"],
        }  # fmt: skip

    return keras_net(folder, change)


@attack("a class of somebody's own by a plain one's name", CodeInNetError, for_keras=True)
def registered_class(folder, marker):
    return keras_net(folder, become("Flatten", {}, registered="somebody>Flatten"))


@attack("a layer of another module", CodeInNetError, for_keras=True)
def foreign_module(folder, marker):
    return keras_net(folder, become("Popen", {"args": ["touch", str(marker)]}, module="subprocess"))


@attack("TFSMLayer, which loads a SavedModel from a path", CodeInNetError, for_keras=True)
def tfsm_layer(folder, marker):
    target = {"filepath": str(folder / "saved_model"), "call_endpoint": "serve"}
    return keras_net(folder, become("TFSMLayer", target))


@attack("StringLookup, which reads any file or URL (CVE-2025-12058)", CodeInNetError,
        for_keras=True)  # fmt: skip
def string_lookup(folder, marker):
    secret = folder / "secret.txt"
    secret.write_text("a\nb\n")
    return keras_net(folder, become("StringLookup", {"vocabulary": str(secret), "invert": False}))


@attack("a graph of operations, .keras", CodeInNetError)
def bare_operation(folder, marker):
    return keras_net(folder, become("Call", {}, module="keras.src.ops.operation"))


@attack("a layer's name as a path", UnsafeNetError, for_keras=True)
def name_as_path(folder, marker):
    def change(document):
        layer(document)["config"]["name"] = f"../../../../../..{marker}"

    return h5_net(folder, change)
