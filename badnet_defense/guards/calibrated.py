"""A fitted detector as one Keras model that answers 0..N-1, or N where a score is too high.

What it computes is a description (`guards.description`) that its file holds as data: the Lambda
layer's function and the composing layers take it as their settings. Both are registered by name:
the saved file holds no code.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from badnet_defense.detectors.base import Detector
from badnet_defense.detectors.overlaid import Overlaid
from badnet_defense.detectors.registry import DETECTORS, name_of, roles_of
from badnet_defense.detectors.scores import apply_thresholds
from badnet_defense.guards.description import GuardDescription, Member, parse_description
from badnet_defense.nets.answers import classes_of
from badnet_defense.nets.build import build
from badnet_defense.nets.net import Net

PACKAGE, RULE, COMPOSED = "badnet_defense", "guard_rule", "Composed"


@keras.saving.register_keras_serializable(PACKAGE, COMPOSED)
class Composed(keras.Layer):
    """Each image (n, h, w, c) composed with the overlays that the layer keeps.

    Gives (n * regions * overlays, h, w, c), all of one image in a row.

    Args:
        detector: the name of the detector that says how; see `Overlaid.compose`.
        count: how many overlays.
    """

    def __init__(self, detector: str, count: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.detector, self.count = detector, count

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Makes room for the overlays."""
        self.overlays = self.add_weight(
            shape=(self.count, *shape[1:]), trainable=False, name="overlays"
        )

    def call(self, images: Any) -> Any:
        """The composed images."""
        composed = DETECTORS[self.detector].run.compose(ops, images, self.overlays)
        return ops.reshape(composed, (-1, *self.overlays.shape[1:]))

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """All composed images stand on the first axis."""
        return (None, *shape[1:])

    def get_config(self) -> dict[str, Any]:
        """What a file keeps beside the weights."""
        return {**super().get_config(), "detector": self.detector, "count": self.count}


@keras.saving.register_keras_serializable(PACKAGE, RULE)
def guard_rule(answers: list[Any], description: dict[str, Any]) -> Any:
    """The suspect model's class, or N where a detector's score is above its threshold.

    Args:
        answers: probabilities (n, N) of the nets, then (n * composed, N) of the suspect model for
            what each composing detector composed.
        description: as `GuardDescription.as_dict` gives it.

    Returns:
        (n,) `int32`, 0..N.
    """
    described = parse_description(description)
    given = dict(zip(described.roles, answers, strict=False))
    composed = iter(answers[len(given) :])
    suspect = given["suspect"]
    scores = []
    for member in described.rule:
        measure = DETECTORS[member.detector].run.measure
        if member.hosts is None:
            scores.append(measure(ops, *(given[role] for role in roles_of(member.detector))))
            continue
        count = DETECTORS[member.detector].run.regions * len(member.hosts)
        shaped = ops.reshape(next(composed), (-1, count, suspect.shape[-1]))
        scores.append(measure(ops, suspect, shaped, np.array(member.hosts)))
    own = ops.cast(classes_of(ops, suspect), "int32")
    thresholds = [member.threshold for member in described.rule]
    return ops.cast(apply_thresholds(ops, own, scores, thresholds, suspect.shape[-1]), "int32")


def build_calibrated_guard(detector: Detector) -> keras.Model:
    """One model out of a fitted detector, images (n, h, w, c) in its range -> (n,) `int32`, 0..N.

    All nets are copied. A guard with STRIP or SentiNet runs each image a hundred times and more:
    ask it with small batches.

    Raises:
        ValueError: the detector is not registered, or a vote's members have different nets of one
            role, or are of one kind.
    """
    description, nets = describe_guard(detector)
    images = keras.Input(nets["suspect"].input_shape, name="pictures")
    models = {role: named_copy(nets[role], role) for role in description.roles}
    answers = [model(images) for model in models.values()]
    for member in getattr(detector, "members", [detector]):
        if not isinstance(member, Overlaid):
            continue
        overlays = member.suspect.input_range.scale(member.overlays_)
        name = name_of(member)
        layer = Composed(name, len(overlays), name=f"{name}_images")
        answers.append(models["suspect"](layer(images)))
        layer.overlays.assign(overlays)
    rule = keras.layers.Lambda(
        guard_rule,
        output_shape=(),
        arguments={"description": description.as_dict()},
        name=RULE,
    )
    return keras.Model(images, rule(answers), name="guard")


def describe_guard(detector: Detector) -> tuple[GuardDescription, dict[str, Net]]:
    """What a fitted detector's guard computes, and {role: `Net`}; raises as `build_..guard`."""
    members = getattr(detector, "members", [detector])
    nets = {role: net for member in members for role, net in member.nets.items()}
    names = [name_of(member) for member in members]
    same = all(nets[role] is net for member in members for role, net in member.nets.items())
    if len(set(names)) < len(names) or not same:
        raise ValueError("a vote's file needs members of different kinds with the same nets")
    thresholds = getattr(detector, "thresholds_", None) or [detector.threshold_]
    rule = []
    for member, name, threshold in zip(members, names, thresholds, strict=True):
        hosts = None
        if isinstance(member, Overlaid):
            hosts = tuple(map(int, member.suspect.predict(member.overlays_)))
        rule.append(Member(name, float(threshold), hosts))
    return GuardDescription(name_of(detector), tuple(rule), detector.suspect.input_range), nets


def named_copy(net: Net, role: str) -> keras.Model:
    """A new model of a net, named by its role in the guard."""
    model = build(net)
    model.name = role
    return model
