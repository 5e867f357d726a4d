"""STRIP: a triggered picture keeps its class whatever is laid over it (Gao et al., ACSAC 2019).

The entropy is that of each overlay's class distribution, averaged over the overlays. Departures:
both pictures are averaged, since adding them, as the original does, leaves little of either where
both are bright. The first convolution is done once for each picture and each overlay, not for each
pair (`badnet_defense.detectors.linear_start`).
"""

import numpy as np

from badnet_defense.detectors import scores
from badnet_defense.detectors.linear_start import split_linear
from badnet_defense.detectors.overlaid import Overlaid
from badnet_defense.nets.graph import without_softmax
from badnet_defense.nets.scaling import scaled_images


class Strip(Overlaid):
    """Flags pictures whose prediction stays certain under overlays of clean pictures.

    Arguments and attributes as for `Overlaid`; 100 overlays in the paper.

    Example:
        >>> guard = Strip(bad, false_positive_rate=0.01).fit(clean)
        >>> guard.predict(pictures)  # 0..N-1, or N for poisoned
    """

    measure = scores.neg_entropy

    def __init__(self, bad, *, overlays=100, **settings):
        super().__init__(bad, overlays=overlays, **settings)

    def compiled(self, spec, most):
        """A function, pictures (n, h, w, c) with pixels 0-255 -> (n,) minus mean entropies."""
        return compiled_certainty(spec, self.overlays_, most, self.input_range)


def compiled_certainty(spec, overlays, most, input_range):
    """A function, pictures (n, h, w, c) with pixels 0-255 -> (n,) minus mean entropies in bits.

    Args:
        spec: the net (`Net`).
        overlays: (k, h, w, c), pixels 0-255.
        most: pairs of picture and overlay that go through the net at once; where one picture's are
            more, they go in several blocks.
        input_range: the net's range.
    """
    import tensorflow as tf
    from keras import ops

    logits = without_softmax(spec)
    first, mixed, rest = split_linear(logits)
    blocks = [
        first(input_range.scale(overlays[start : start + most]))
        for start in range(0, len(overlays), most)
    ]

    @tf.function(jit_compile=True)  # thousands of exponentials and logarithms a picture: vectorised
    def mean_certainty(answers):
        return scores.neg_entropy(ops, answers if logits is spec else ops.softmax(answers))

    @tf.function(reduce_retracing=True)
    def block_certainty(pictures, overlaid):
        answers = rest(mixed(first(scaled_images(pictures, input_range)), overlaid))
        count = tf.shape(overlaid)[1]
        return mean_certainty(tf.reshape(answers, (-1, count, answers.shape[-1])))

    def neg_entropy(pictures):
        means = [block_certainty(pictures, overlaid).numpy() for overlaid in blocks]
        return np.average(means, axis=0, weights=[overlaid.shape[1] for overlaid in blocks])

    return neg_entropy
