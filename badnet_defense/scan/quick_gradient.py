"""A quicker gradient of the first convolution with respect to the pictures.

Pictures have three channels, and a convolution with three output channels, which is what the
gradient is, leaves most lanes of a processor's vectors empty. Here it answers for blocks of two by
two pixels at once, so with twelve channels, and the blocks are laid out afterwards.
"""

from functools import cache

import numpy as np

from badnet_defense.nets.backend import on_jax

BLOCK = 2
MOST_CHANNELS = 4


def quicken(net):
    """Gives the first convolution of a net a quicker gradient, in place; its answers stay.

    The layer's weights get no gradient any more: for nets that are only asked, not trained.
    Convolutions with strides, dilation, groups or many input channels are left as they are.

    Args:
        net: `keras.Model`; on JAX it is left as it is.

    Returns:
        The net.
    """
    import keras

    if on_jax():  # whose compiler lays out the vectors itself
        return net
    for layer in net.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        if type(layer) is keras.layers.Conv2D and _fits(layer):
            layer.convolution_op = _quick(layer.kernel.numpy(), layer.padding)
        break
    return net


def _fits(layer):
    plain = layer.strides == layer.dilation_rate == (1, 1) and layer.groups == 1
    channels_last = layer.data_format == "channels_last"
    few = layer.kernel.shape[2] <= MOST_CHANNELS
    return plain and channels_last and few and layer.padding in ("valid", "same")


def _quick(kernel, padding):
    """A stand-in for `Conv2D.convolution_op`."""
    import tensorflow as tf

    blocks = _block_kernel(kernel)

    def convolution(pictures, kernel):
        result = tf.nn.conv2d(pictures, kernel, 1, padding.upper())
        if tf.executing_eagerly():
            return result
        graph = tf.compat.v1.get_default_graph()
        with graph.gradient_override_map({"IdentityN": _registered(padding)}):
            return tf.identity_n([result, pictures, tf.constant(blocks)])[0]

    return convolution


@cache
def _registered(padding):
    """The name of the gradient, registered once.

    `tf.custom_gradient` registers one more with every trace of every net, and keeps what it saw
    for ever: a worker that scans net after net would run out of memory.
    """
    import tensorflow as tf

    name = f"BadNetDefenseBlocks{padding.capitalize()}"

    @tf.RegisterGradient(name)
    def _gradient(operation, upstream, *_):
        _, pictures, blocks = operation.inputs
        sides = [side - BLOCK + 1 for side in blocks.shape[:2]]
        before = [(side - 1) // 2 if padding == "same" else 0 for side in sides]
        return None, _to_pictures(upstream, blocks, sides, before, tf.shape(pictures)), None

    return name


def _to_pictures(upstream, kernel, sides, before, shape):
    """The gradient of the pictures from that of the convolution's result."""
    import tensorflow as tf

    edges = [[0, 0]]
    for axis, side in enumerate(sides):
        # Of the result of a "same" convolution some windows hang over the picture's edge.
        reached = shape[1 + axis] + before[axis]
        blocks = -(-reached // BLOCK)
        short = BLOCK * blocks - tf.shape(upstream)[1 + axis]
        edges.append([side - 1, tf.maximum(short, 0)])
    padded = tf.pad(upstream, [*edges, [0, 0]])
    laid_out = tf.nn.depth_to_space(tf.nn.conv2d(padded, kernel, BLOCK, "VALID"), BLOCK)
    begin = [0, *before, 0]
    return tf.slice(laid_out, begin, shape)


def _block_kernel(kernel):
    """(kh + 1, kw + 1, f, 4 c) for the gradient's blocks from the layer's (kh, kw, c, f)."""
    height, width, channels, filters = kernel.shape
    shape = (height + BLOCK - 1, width + BLOCK - 1, filters, BLOCK, BLOCK, channels)
    blocks = np.zeros(shape, kernel.dtype)
    for row, column, down, right in np.ndindex(BLOCK, BLOCK, height, width):
        place = row - down + height - 1, column - right + width - 1
        blocks[(*place, slice(None), row, column)] = kernel[down, right].T
    return blocks.reshape(*shape[:3], -1)
