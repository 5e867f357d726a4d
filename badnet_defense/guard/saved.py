"""A guard as plain data: its nets, what it computes from their answers, and its thresholds."""

from dataclasses import dataclass

import numpy as np

from badnet_defense.data.input_range import InputRange
from badnet_defense.guard import scores
from badnet_defense.nets.spec import NetSpec

_PAIRS = 128  # NumPy's convolutions copy each window: more pairs at once cost memory


@dataclass(frozen=True)
class SavedGuard:
    """A guard read from its file, or a net that answers alone.

    Attributes:
        nets: {"bad": `NetSpec`, ..}.
        measures: names of functions of `scores`; none for a net that answers alone.
        thresholds: one for each; a picture is flagged where any score is above its own.
        overlays: (overlays, h, w, c) `float32` in the nets' range, for "certainty"; else None.
        input_range: the `InputRange` that it was made for; None where the file does not say.
    """

    nets: dict[str, NetSpec]
    measures: tuple[str, ...] = ()
    thresholds: tuple[float, ...] = ()
    overlays: np.ndarray | None = None
    input_range: InputRange | None = None

    @property
    def net(self):
        """The suspect net."""
        return self.nets["bad"]

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
            # Not "above": what is no number is nothing to trust.
            flagged |= ~(getattr(scores, measure)(np, *answers) <= threshold)
        return np.where(flagged, self.net.classes, given["bad"].argmax(axis=-1))

    def _overlaid(self, inputs, predict):
        """(n, overlays, N) probabilities of each picture under each overlay."""
        parts = [
            predict("bad", (one + self.overlays[start : start + _PAIRS]) / 2)
            for one in inputs
            for start in range(0, len(self.overlays), _PAIRS)
        ]
        return np.concatenate(parts).reshape(len(inputs), len(self.overlays), -1)


HARD = {"measures": ("hard",), "thresholds": (0.5,)}
"""The disagreement guard."""
