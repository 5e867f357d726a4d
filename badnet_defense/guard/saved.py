"""A guard as plain data: its nets, what it computes from their answers, and its thresholds."""

from dataclasses import dataclass

import numpy as np

from badnet_defense.guard import scores
from badnet_defense.nets.spec import NetSpec


@dataclass(frozen=True)
class SavedGuard:
    """A guard read from its file, or a net that answers alone.

    Attributes:
        nets: {"bad": `NetSpec`, ..}.
        measures: names of functions of `scores`; none for a net that answers alone.
        thresholds: one for each; a picture is flagged where any score is above its own.
        overlays: (overlays, h, w, c) `float32` in the nets' range, for "certainty"; else None.
    """

    nets: dict[str, NetSpec]
    measures: tuple[str, ...] = ()
    thresholds: tuple[float, ...] = ()
    overlays: np.ndarray | None = None

    @property
    def net(self):
        """The suspect net."""
        return self.nets["bad"]

    @property
    def pictures_at_once(self):
        """How many pictures make a batch of a bearable size in memory."""
        return 512 if self.overlays is None else max(1, 512 // len(self.overlays))

    def answers(self, inputs, predict=None):
        """(n,) answers 0..N.

        Args:
            inputs: (n, h, w, c) `float32` in the nets' range.
            predict: (name of a net, inputs) -> probabilities (n, N); default: NumPy alone.
        """
        predict = predict or (lambda name, inputs: self.nets[name].predict(inputs))
        given = {name: predict(name, inputs) for name in self.nets}
        flagged = np.zeros(len(inputs), bool)
        for measure, threshold in zip(self.measures, self.thresholds, strict=True):
            if measure == "certainty":
                answers = (self._overlaid(inputs, predict),)
            else:
                answers = (given[name] for name in scores.NETS[measure])
            flagged |= getattr(scores, measure)(np, *answers) > threshold
        return np.where(flagged, self.net.classes, given["bad"].argmax(axis=-1))

    def _overlaid(self, inputs, predict):
        """(n, overlays, N) probabilities of each picture under each overlay."""
        mixed = (inputs[:, None] + self.overlays) / 2
        answers = predict("bad", mixed.reshape(-1, *inputs.shape[1:]))
        return answers.reshape(*mixed.shape[:2], -1)


HARD = {"measures": ("hard",), "thresholds": (0.5,)}
"""The disagreement guard."""
