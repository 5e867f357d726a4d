"""SentiNet: a trigger takes its class along wherever it is pasted (Chou et al., SPW 2020).

Regions of the picture are pasted onto clean pictures of other classes, at their own place; one that
takes the picture's class along to nearly all of them holds a trigger, while a band of a clean
face or sign seldom does. It sees what fits into a third of the picture and works wherever it lies:
a trigger that works on some classes only, or sends each class to another one, is pasted onto images
of other classes, where it does not do the same, and is missed. Departures: fixed bands across and
down instead of regions that a saliency method finds (which a trigger can mislead), and no second
axis with inert patterns.
"""

import numpy as np

from badnet_defense.detectors import scores
from badnet_defense.detectors.bands import bands
from badnet_defense.detectors.linear_start import split_linear
from badnet_defense.detectors.overlaid import Overlaid
from badnet_defense.errors import InputError
from badnet_defense.nets.build import build
from badnet_defense.nets.graph import without_softmax
from badnet_defense.nets.predict import predict_labels


class SentiNet(Overlaid):
    """Flags pictures of which a band takes their class along to clean pictures.

    Arguments and attributes as for `Overlaid`; the clean pictures are what the bands are pasted on.

    Example:
        >>> guard = SentiNet(bad, false_positive_rate=0.01).fit(clean)
        >>> guard.predict(pictures)  # 0..N-1, or N for poisoned
    """

    measure = scores.takeover

    def __init__(self, bad, *, overlays=16, **settings):
        super().__init__(bad, overlays=overlays, **settings)

    def compiled(self, spec, most):
        """A function, pictures (n, h, w, c) with pixels 0-255 -> (n,) scores in nats.

        The first convolution, being linear, is done once for each band of a picture and once for
        the rest of each overlay, not for each pair.
        """
        import tensorflow as tf
        from keras import ops

        net = build(spec)
        logits = without_softmax(spec)
        first, mixed, rest = split_linear(logits)
        shown = tf.constant(self.input_range.scale(self.overlays_))
        hosts = predict_labels(net, self.overlays_, input_range=self.input_range)
        if len(set(hosts)) < 2:
            raise InputError(
                f"all {len(hosts)} clean pictures that bands are pasted on are answered with class "
                f"{hosts[0]}; SentiNet needs pictures of several classes."
            )
        masks = bands(spec.input_shape).astype(np.float32)
        blocks = [shown[start : start + most] for start in range(0, len(shown), most)]

        @tf.function(reduce_retracing=True)
        def taken_over(inputs, mask, own_answers):
            # `first` halves, since it is made for averages; here the parts are to be added.
            own = first(2 * mask * inputs)
            parts = [rest(mixed(own, first(2 * (1 - mask) * block))) for block in blocks]
            answers = [
                tf.reshape(one, (tf.shape(inputs)[0], 1, -1, one.shape[-1])) for one in parts
            ]
            answers = tf.concat(answers, axis=2)
            answers = answers if logits is spec else tf.nn.softmax(answers)
            return scores.takeover(ops, own_answers, answers, hosts)

        def score(pictures):
            inputs = self.input_range.scale(pictures)
            own = net(inputs, training=False)
            found = [taken_over(inputs, mask, own) for mask in masks]
            return np.max(found, axis=0)

        return score
