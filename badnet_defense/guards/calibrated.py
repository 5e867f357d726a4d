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
from badnet_defense.nets.build import build

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
    suspect, *found = inputs
    own = ops.cast(classes_of(ops, suspect), "int32")
    return scores.apply_thresholds(ops, own, found, thresholds, suspect.shape[-1])


def build_calibrated_guard(detector):
    """One model out of a fitted detector or vote, images (n, h, w, c) -> (n,) `int32`, 0..N.

    All nets are copied. A guard with STRIP or SentiNet runs each image a hundred times and more:
    ask it with small batches.

    Raises:
        ValueError: a vote's members have different nets of one name, or are of one kind.
    """
    members = getattr(detector, "members", [detector])
    nets = {name: net for one in members for name, net in one.nets.items()}
    kinds = {type(one).measure for one in members}
    same = all(nets[name] is net for one in members for name, net in one.nets.items())
    if len(kinds) < len(members) or not same:
        raise ValueError("a vote's file needs members of different kinds with the same nets")
    images = keras.Input(nets["suspect"].input_shape, name="pictures")
    copies, answers = {}, {}
    for role in (role for role in ("suspect", "repaired", "expert") if role in nets):
        copies[role] = build(nets[role])
        copies[role].name = {"suspect": "bad"}.get(role, role)
        answers[role] = copies[role](images)
    found = [_score(one, images, copies, answers) for one in members]
    limits = getattr(detector, "thresholds_", None) or [float(detector.threshold_)]
    range_ = nets["suspect"].input_range
    verdict = keras.layers.Lambda(
        flag_above,
        output_shape=(),
        arguments={
            "thresholds": limits,
            "input_range": [float(range_.low), float(range_.high)],
        },
        name=VERDICT,
    )
    return keras.Model(images, verdict([answers["suspect"], *found]), name="guard")


def _score(detector, images, nets, answers):
    """A detector's scores as a tensor (n,)."""
    name = type(detector).measure.__name__
    arguments = {}
    inputs = [answers[role] for role in detector.nets]
    if name in _COMPOSING:
        overlays = detector.suspect.input_range.scale(detector.overlays_)
        composing = _COMPOSING[name](len(overlays), name=f"{name}_pictures")
        composed = nets["suspect"](composing(images))
        composing.overlays.assign(overlays)
        hosted = name in scores.HOSTED
        inputs = [*inputs, composed] if hosted else composed
        hosts = classes_of(np, nets["suspect"](overlays).numpy())
        arguments = {"hosts": hosts.tolist()} if hosted else {"overlays": len(hosts)}
    layer = keras.layers.Lambda(_FUNCTIONS[name], output_shape=(), arguments=arguments, name=name)
    return layer(inputs)
