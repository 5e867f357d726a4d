"""A net as a function of its pictures and of its variables, for what differentiates by both."""

import numpy as np

from badnet_defense.nets.scaling import scaled_images


def random_brightness_contrast(pictures, gain, offset, input_range):
    """`uint8` pictures under changed light as a TensorFlow tensor in the net's range.

    Args:
        pictures: (n, h, w, c), 0-255.
        gain, offset: as `light_changes` gives them.
        input_range: the net's range.
    """
    import tensorflow as tf

    lit = tf.clip_by_value(tf.cast(pictures, tf.float32) * gain + offset, 0.0, 255.0)
    return scaled_images(lit, input_range)


def logits_of(net, variables, pictures):
    """A net's answers with other values in the place of its trainable variables.

    Args:
        net: `keras.Model` without its softmax; nothing of it changes.
        variables: tensors, one for each of `net.trainable_variables`.
        pictures: (n, h, w, c), scaled.

    Returns:
        (n, classes), as the net answers when it is used (batch normalisation by its own averages).
    """
    state = [variable.value for variable in net.non_trainable_variables]
    return net.stateless_call(variables, state, pictures, training=False)[0]


def loss_for(targets, held_back=()):
    """Cross-entropy on logits for hard (n,) or soft (n, classes) targets.

    Args:
        targets: as above; only their number of axes counts.
        held_back: classes that no image shows. The cross-entropy is that of the others: what
            pushes these down on every image would forget them. A backdoor that leads to one of
            them is not pushed down either. No hard target may be one of them; soft targets of the
            others are scaled to a sum of 1.
    """
    import keras

    losses = keras.losses
    kind = losses.CategoricalCrossentropy if targets.ndim > 1 else None
    loss = (kind or losses.SparseCategoricalCrossentropy)(from_logits=True)
    return _among_others(loss, targets, held_back) if len(held_back) else loss


def _among_others(loss, targets, held_back):
    """`loss` of all classes but those that are held back."""
    import tensorflow as tf

    def among(wanted, logits):
        kept = np.setdiff1d(np.arange(logits.shape[-1]), held_back)
        if targets.ndim > 1:
            wanted = tf.gather(wanted, kept, axis=-1)
            wanted /= tf.reduce_sum(wanted, axis=-1, keepdims=True)
        else:
            wanted = tf.searchsorted(kept, tf.cast(wanted, kept.dtype))
        return loss(wanted, tf.gather(logits, kept, axis=-1))

    return among
