"""Notices a net and data that do not belong together, and pictures in the wrong range."""

import numpy as np

from badnet_defense.data.input_range import UNIT, InputRange
from badnet_defense.errors import InputError
from badnet_defense.nets.predict import predict_labels

SAMPLE = 1000
_RANGES = (UNIT, InputRange(0.0, 255.0), InputRange(-1.0, 1.0))
_CLEARLY = 0.1
"""By how much another range must do better before it is called the right one."""


def check_belonging(net, images, *, classes, input_range=UNIT, net_name="the net"):
    """Refuses labelled clean pictures that the net hardly knows: a wrong range ruins every defence.

    Args:
        net: `keras.Model`.
        images: clean `LabelledImages`; unlabelled ones pass.
        classes: N.
        input_range: the range that was asked for.
        net_name: for the message.

    Raises:
        InputError: another range does clearly better, or accuracy lies near chance.
    """
    if images.labels is None:
        return
    chosen = np.random.default_rng(0).permutation(len(images))[:SAMPLE]
    sample = images.subset(chosen)

    def accuracy(candidate):
        return np.mean(predict_labels(net, sample.pictures, input_range=candidate) == sample.labels)

    own = accuracy(input_range)
    if own > 0.9:
        return
    best = max((one for one in _RANGES if one != input_range), key=accuracy)
    if accuracy(best) > own + _CLEARLY:
        raise InputError(
            f"{net_name} answers {own:.1%} of {images.source} correctly with pixels in "
            f"{input_range}, but {accuracy(best):.1%} with {best}; give --input-range {best}."
        )
    if own <= 1 / classes + 0.05 * (1 - 1 / classes):
        raise InputError(
            f"{net_name} answers only {own:.1%} of {images.source} correctly, near chance "
            f"({1 / classes:.1%}); this net and this data do not belong together, give its own."
        )
