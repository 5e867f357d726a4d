"""A fitted detector as one Keras model that answers 0..N-1, or N where a score is too high.

Like the disagreement guard's, the functions of its Lambda layers are registered by name: the saved
file holds numbers, and no code.
"""

import keras
import numpy as np
from keras import ops

from badnet_defense.detectors import scores
from badnet_defense.detectors.bands import PLACES, bands
from badnet_defense.nets.answers import classes_of

PACKAGE = "badnet_defense"
VERDICT = "flag_above"


class _Composing(keras.Layer):
    """Composes each picture (n, h, w, c) with pictures that the layer keeps.

    Args:
        count: how many it keeps.
    """

    def __init__(self, count, **settings):
        super().__init__(**settings)
        self.count = count

    def build(self, shape):
        """Makes room for the pictures."""
        self.overlays = self.add_weight(
            shape=(self.count, *shape[1:]), trainable=False, name="overlays"
        )

    def compute_output_shape(self, shape):
        """All composed pictures stand on the first axis."""
        return (None, *shape[1:])

    def get_config(self):
        """What a file keeps beside the weights."""
        return {**super().get_config(), "count": self.count}


@keras.saving.register_keras_serializable(PACKAGE, "LaidOver")
class LaidOver(_Composing):
    """Each picture averaged with each overlay: (n * overlays, h, w, c)."""

    def call(self, pictures):
        """The mixtures, all overlays of a picture in a row."""
        mixed = (ops.expand_dims(pictures, 1) + self.overlays) / 2
        return ops.reshape(mixed, (-1, *self.overlays.shape[1:]))


@keras.saving.register_keras_serializable(PACKAGE, "Pasted")
class Pasted(_Composing):
    """Each band of each picture pasted onto each kept one: (n * bands * overlays, h, w, c)."""

    def call(self, pictures):
        """The composed pictures, all of one band in a row, all of one picture in a row."""
        shape = self.overlays.shape[1:]
        composed = ops.where(bands(shape)[:, None], pictures[:, None, None], self.overlays)
        return ops.reshape(composed, (-1, *shape))


@keras.saving.register_keras_serializable(PACKAGE, "PastedOn")
class PastedOn(Pasted):
    """The same for `takeover`: a guard's file tells by its layers what is computed."""


def _on_answers(measure):
    """A Lambda layer's function for one of `scores`, which takes the nets' answers in order."""

    def score(answers):
        return measure(ops, *answers)

    return score


def _certainty(answers, overlays):
    return scores.neg_entropy(ops, ops.reshape(answers, (-1, overlays, answers.shape[-1])))


def _on_hosts(measure):
    """A Lambda layer's function for one of `scores.HOSTED`."""

    def score(answers, hosts):
        own, carried = answers
        shape = (-1, 2 * PLACES, len(hosts), own.shape[-1])
        return measure(ops, own, ops.reshape(carried, shape), ops.array(hosts))

    return score


_SPECIAL = {
    "neg_entropy": _certainty,
    **{name: _on_hosts(getattr(scores, name)) for name in scores.HOSTED},
}
_FUNCTIONS = {
    name: keras.saving.register_keras_serializable(PACKAGE, name)(
        _SPECIAL.get(name) or _on_answers(getattr(scores, name))
    )
    for name in scores.NETS
}
_COMPOSING = {"neg_entropy": LaidOver, "paste_success": Pasted, "takeover": PastedOn}


@keras.saving.register_keras_serializable(PACKAGE, VERDICT)
def flag_above(inputs, thresholds, input_range):
    """The bad net's class, or N where it has none or one of the scores is above its threshold.

    Args:
        inputs: [probabilities (n, N), scores (n,), ..].
        thresholds: a number for each of the scores.
        input_range: [low, high] of the nets, for whoever reads the file; nothing is done with it.

    Returns:
        (n,) `int32`, 0..N.
    """
    bad, *found = inputs
    own = ops.cast(classes_of(ops, bad), "int32")
    return scores.apply_thresholds(ops, own, found, thresholds, bad.shape[-1])


def build_calibrated_guard(detector):
    """One model out of a fitted detector or vote, pictures (n, h, w, c) -> (n,) `int32`, 0..N.

    All nets are copied. A guard with STRIP or SentiNet runs each picture a hundred times and more:
    ask it with small batches.

    Raises:
        ValueError: a vote's members have different nets of one name, or are of one kind.
    """
    from badnet_defense.nets.build import copy_model

    members = getattr(detector, "members", [detector])
    nets = {name: net for one in members for name, net in one.nets.items()}
    kinds = {type(one).measure for one in members}
    same = all(nets[name] is net for one in members for name, net in one.nets.items())
    if len(kinds) < len(members) or not same:
        raise ValueError("a vote's file needs members of different kinds with the same nets")
    pictures = keras.Input(nets["bad"].input_shape[1:], name="pictures")
    copies, answers = {}, {}
    for name in (name for name in scores.NAMES if name in nets):
        copies[name] = copy_model(nets[name])
        copies[name].name = name
        answers[name] = copies[name](pictures)
    found = [_score(one, pictures, copies, answers) for one in members]
    limits = getattr(detector, "thresholds_", None) or [float(detector.threshold_)]
    verdict = keras.layers.Lambda(
        flag_above,
        output_shape=(),
        arguments={
            "thresholds": limits,
            "input_range": [float(detector.input_range.low), float(detector.input_range.high)],
        },
        name=VERDICT,
    )
    return keras.Model(pictures, verdict([answers["bad"], *found]), name="guard")


def _score(detector, pictures, nets, answers):
    """A detector's scores as a tensor (n,)."""
    name = type(detector).measure.__name__
    arguments = {}
    inputs = [answers[one] for one in detector.nets]
    if name in _COMPOSING:
        overlays = detector.input_range.scale(detector.overlays_)
        composing = _COMPOSING[name](len(overlays), name=f"{name}_pictures")
        composed = nets["bad"](composing(pictures))
        composing.overlays.assign(overlays)
        hosted = name in scores.HOSTED
        inputs = [*inputs, composed] if hosted else composed
        hosts = classes_of(np, nets["bad"](overlays).numpy())
        arguments = {"hosts": hosts.tolist()} if hosted else {"overlays": len(hosts)}
    layer = keras.layers.Lambda(_FUNCTIONS[name], output_shape=(), arguments=arguments, name=name)
    return layer(inputs)
