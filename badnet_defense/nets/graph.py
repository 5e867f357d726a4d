"""Questions about a net's graph, and nets cut out of it."""

from dataclasses import replace

from badnet_defense.errors import InputError
from badnet_defense.nets.spec import call_shapes

CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D")


def consumers(spec, position):
    """Positions of the calls that take the result of the call at `position`."""
    return [later for later, call in enumerate(spec.calls) if position in call.inputs]


def position_of(spec, layer):
    """Position of the only call of `layer`; raises `InputError` if it is not there or shared."""
    positions = [index for index, call in enumerate(spec.calls) if call.layer == layer]
    if not positions:
        names = ", ".join(convolution_names(spec))
        raise InputError(f"the net has no layer {layer!r}; its convolutions are {names or 'none'}.")
    if len(positions) > 1:
        raise InputError(f"layer {layer!r} is used {len(positions)} times; choose one used once.")
    return positions[0]


def convolution_names(spec):
    """Names of the convolutions, in the order of their calls."""
    names = (call.layer for call in spec.calls)
    return list(dict.fromkeys(n for n in names if spec.layers[n].kind in CONVOLUTIONS))


def behind(spec, position):
    """Positions that depend on the call at `position`, itself among them."""
    found = {position}
    for later, call in enumerate(spec.calls):
        if found.intersection(call.inputs):
            found.add(later)
    return found


def on_every_path(spec, position):
    """True where no path from the pictures to the output avoids the call at `position`."""
    reached = {0}
    for later, call in enumerate(spec.calls):
        if later != position and reached.intersection(call.inputs):
            reached.add(later)
    return spec.output not in reached


def layer_to_prune(spec, layer=None):
    """The layer whose channels are ranked: `layer`, or `conv_3`, or the last good convolution.

    The last convolution may be only on a side path (DeepID's conv_4 is: fc_1 takes pool_3), where
    pruning it leaves the backdoor another way, so the last one on *every* path is taken.

    Raises:
        InputError: there is no such layer, it is no convolution, or none lies on every path.
    """
    if layer is None and "conv_3" in convolution_names(spec):
        layer = "conv_3"
    if layer is not None:
        position_of(spec, layer)
        kind = spec.layers[layer].kind
        if kind not in CONVOLUTIONS:
            raise InputError(
                f"layer {layer!r} is a {kind}; expected one of {', '.join(CONVOLUTIONS)}."
            )
        return layer
    for name in reversed(convolution_names(spec)):
        uses = [index for index, call in enumerate(spec.calls) if call.layer == name]
        if len(uses) == 1 and on_every_path(spec, uses[0]):
            return name
    raise InputError("no convolution lies on every path to the output; name one with --layer.")


def part(spec, inputs, outputs, *, sums=()):
    """A `keras.Model` of a piece of the net.

    Args:
        spec: the net.
        inputs: positions of the calls whose results are the model's first inputs.
        outputs: positions of the calls whose results are its outputs.
        sums: positions of linear layers whose sums, before the layer's activation, are its further
            inputs.

    Returns:
        a model that takes and gives one tensor, or a list of several.
    """
    import keras

    from badnet_defense.nets.build import connect

    shapes = call_shapes(spec)
    starts = [keras.Input(shapes[position]) for position in (*inputs, *sums)]
    tensors = dict(zip((*inputs, *sums), starts, strict=True))
    for position in sums:
        layer = spec.layers[spec.calls[position].layer]
        activation = keras.layers.Activation(
            layer.config["activation"], name=f"{layer.name}.activation"
        )
        tensors[position] = activation(tensors[position])
    connect(spec, tensors, outputs)
    ends = [tensors[position] for position in outputs]
    return keras.Model(starts if len(starts) > 1 else starts[0], ends if len(ends) > 1 else ends[0])


def without_softmax(spec):
    """The net whose output is the logits, if its last step is a softmax; else `spec` itself."""
    last = spec.calls[spec.output]
    layer = spec.layers[last.layer]
    if layer.kind == "Softmax" or layer.config.get("activation") == "softmax":
        if layer.kind in ("Softmax", "Activation"):
            return replace(spec, output=last.inputs[0])
        plain = replace(layer, config={**layer.config, "activation": "linear"})
        return replace(spec, layers={**spec.layers, layer.name: plain})
    return spec
