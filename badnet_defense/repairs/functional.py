"""A net as a function of its images and of its variables, to differentiate by both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from badnet_defense.nets.input_range import InputRange
from badnet_defense.nets.scaling import scaled_images

if TYPE_CHECKING:
    import keras


def random_brightness_contrast(images: Any, gain: Any, offset: Any, input_range: InputRange) -> Any:
    """`uint8` images with changed brightness and contrast, as a tensor in the net's range.

    Args:
        images: (n, h, w, c), 0-255.
        gain, offset: as `draw_brightness_contrast` gives them.
        input_range: the net's range.
    """
    import tensorflow as tf

    changed = tf.clip_by_value(tf.cast(images, tf.float32) * gain + offset, 0.0, 255.0)
    return scaled_images(changed, input_range)


def logits_of(model: keras.Model, variables: Sequence[Any], inputs: Any) -> Any:
    """A net's answers with other values in the place of its trainable variables.

    Args:
        model: without its softmax; nothing of it changes.
        variables: tensors, one for each of `model.trainable_variables`.
        inputs: (n, h, w, c), scaled.

    Returns:
        (n, classes), as the net answers when it is used (batch normalisation by its own averages).
    """
    state = [variable.value for variable in model.non_trainable_variables]
    return model.stateless_call(variables, state, inputs, training=False)[0]


def loss_for(
    targets: np.ndarray, held_back: Sequence[int] | np.ndarray = ()
) -> Callable[[Any, Any], Any]:
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


def _among_others(
    loss: Callable[[Any, Any], Any], targets: np.ndarray, held_back: Sequence[int] | np.ndarray
) -> Callable[[Any, Any], Any]:
    """`loss` of all classes but those that are held back."""
    import tensorflow as tf

    def among(wanted: Any, logits: Any) -> Any:
        shown = np.setdiff1d(np.arange(logits.shape[-1]), held_back)
        if targets.ndim > 1:
            wanted = tf.gather(wanted, shown, axis=-1)
            wanted /= tf.reduce_sum(wanted, axis=-1, keepdims=True)
        else:
            wanted = tf.searchsorted(shown, tf.cast(wanted, shown.dtype))
        return loss(wanted, tf.gather(logits, shown, axis=-1))

    return among
