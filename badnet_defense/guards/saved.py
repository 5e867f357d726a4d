"""A guard as plain data: its nets, its description and its overlays, and the answers by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from badnet_defense.detectors.registry import DETECTORS, roles_of
from badnet_defense.detectors.scores import apply_thresholds
from badnet_defense.guards.description import GuardDescription, Member
from badnet_defense.nets.answers import classes_of
from badnet_defense.nets.forward import stable_proba
from badnet_defense.nets.input_range import InputRange
from badnet_defense.nets.net import Net
from badnet_defense.nets.shapes import BYTES_AT_ONCE, cost

_AT_ONCE = 128  # NumPy's convolutions copy each window: more images at once cost memory

Predict = Callable[[str, np.ndarray], np.ndarray]
"""(role of a net, inputs (n, h, w, c)) -> probabilities (n, N)."""


@dataclass(frozen=True)
class SavedGuard:
    """A guard read from its file, or a net that answers alone.

    Attributes:
        nets: {"suspect": `Net`, ..}.
        description: what it computes; None of a net that answers alone.
        overlays: {name of a detector: (overlays, h, w, c) `float32` in the nets' range} of those
            that compose images.
        input_range: that it is used with; None where neither its file nor anybody says.
    """

    nets: dict[str, Net]
    description: GuardDescription | None = None
    overlays: dict[str, np.ndarray] = field(default_factory=dict)
    input_range: InputRange | None = None

    @property
    def net(self) -> Net:
        """The suspect model."""
        return self.nets["suspect"]

    @property
    def rule(self) -> tuple[Member, ...]:
        """The detectors that are asked, with their thresholds; none where the net is alone."""
        return () if self.description is None else self.description.rule

    def cost(self) -> tuple[int, int]:
        """(multiplications for one image, bytes of memory) of the answers in NumPy, about."""
        costs = {role: cost(net) for role, net in self.nets.items()}
        composed = {
            name: DETECTORS[name].run.regions * len(images)
            for name, images in self.overlays.items()
        }
        runs = 3 * sum(one.multiplications for one in costs.values())
        peak = max(one.peak for one in costs.values())
        size = 4 * int(np.prod(self.net.input_shape)) * sum(composed.values())
        memory = 2**30 + 4 * max(BYTES_AT_ONCE, 4 * peak) + 4 * size
        return runs + sum(composed.values()) * costs["suspect"].multiplications, memory

    def answers(self, inputs: np.ndarray, predict: Predict | None = None) -> np.ndarray:
        """(n,) answers 0..N; N, too, where a net's answer is not finite or hangs on rounding.

        Args:
            inputs: (n, h, w, c) `float32` in the nets' range.
            predict: (role of a net, inputs) -> probabilities (n, N); default: NumPy alone.
        """
        given = {
            role: predict(role, inputs) if predict else stable_proba(net, inputs)
            for role, net in self.nets.items()
        }
        predict = predict or (lambda role, inputs: self.nets[role].numpy_proba(inputs))
        scores = [self._scores(member, inputs, given, predict) for member in self.rule]
        own = classes_of(np, given["suspect"])
        thresholds = [member.threshold for member in self.rule]
        return apply_thresholds(np, own, scores, thresholds, self.net.classes)

    def _scores(
        self, member: Member, inputs: np.ndarray, given: dict[str, np.ndarray], predict: Predict
    ) -> np.ndarray:
        """(n,) scores by one of the detectors; `given` are the nets' probabilities."""
        kind = DETECTORS[member.detector].run
        if member.hosts is None:
            return kind.measure(np, *(given[role] for role in roles_of(member.detector)))
        overlays, hosts = self.overlays[member.detector], np.array(member.hosts)
        scores = []
        for image, own in zip(inputs, given["suspect"], strict=True):  # one at a time in memory
            composed = kind.compose(np, image[None], overlays)[0]
            parts = range(0, len(composed), _AT_ONCE)
            answers = [predict("suspect", composed[start : start + _AT_ONCE]) for start in parts]
            scores.append(kind.measure(np, own[None], np.concatenate(answers)[None], hosts))
        return np.concatenate(scores)
