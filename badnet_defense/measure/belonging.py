"""Notices a net and data that do not belong together, and pictures in the wrong range."""

import numpy as np

from badnet_defense.data.input_range import UNIT, InputRange
from badnet_defense.errors import InputError
from badnet_defense.nets.predict import predict_labels

SAMPLE = 1000
_RANGES = (UNIT, InputRange(0.0, 255.0), InputRange(-1.0, 1.0))
_CLEARLY, _USEFUL = 0.03, 0.3
"""How much better another range must do, and how well at all, to be called the right one."""


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
    own = check_range(net, images, input_range=input_range, net_name=net_name)
    if own <= 1 / classes + 0.05 * (1 - 1 / classes):
        raise InputError(
            f"{net_name} answers only {own:.1%} of {images.source} correctly, near chance "
            f"({1 / classes:.1%}); this net and this data do not belong together, give its own."
        )


def check_range(net, images, *, input_range=UNIT, net_name="the net"):
    """Refuses a range where another does clearly better; returns the accuracy on a sample.

    Args:
        net, input_range, net_name: as for `check_belonging`.
        images: `LabelledImages` with labels.
    """
    sample = images.drawn(SAMPLE, 0)

    def accuracy(candidate):
        return np.mean(predict_labels(net, sample.pictures, input_range=candidate) == sample.labels)

    own = accuracy(input_range)
    others = {one: accuracy(one) for one in _RANGES if one != input_range}
    best = max(others, key=others.get)
    if others[best] > max(own + _CLEARLY, _USEFUL):
        raise InputError(
            f"{net_name} answers {own:.1%} of {images.source} correctly with pixels in "
            f"{input_range}, but {others[best]:.1%} with {best}; give --input-range {best}."
        )
    return own
