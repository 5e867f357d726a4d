"""A guard as plain data: its nets, what it computes from their answers, and its thresholds."""

from dataclasses import dataclass, field

import numpy as np

from badnet_defense.data.input_range import InputRange
from badnet_defense.guard import scores
from badnet_defense.guard.bands import bands
from badnet_defense.nets.spec import NetSpec

_PAIRS = 128  # NumPy's convolutions copy each window: more pairs at once cost memory


@dataclass(frozen=True)
class SavedGuard:
    """A guard read from its file, or a net that answers alone.

    Attributes:
        nets: {"bad": `NetSpec`, ..}.
        measures: names of functions of `scores`; none for a net that answers alone.
        thresholds: one for each; a picture is flagged where any score is above its own.
        overlays: {measure: (overlays, h, w, c) `float32` in the nets' range} for those that ask
            about composed pictures.
        input_range: the `InputRange` that it was made for; None where the file does not say.
    """

    nets: dict[str, NetSpec]
    measures: tuple[str, ...] = ()
    thresholds: tuple[float, ...] = ()
    overlays: dict[str, np.ndarray] = field(default_factory=dict)
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
            elif measure == "transplant":
                answers = (given["bad"], *self._pasted(inputs, predict))
            else:
                answers = (given[name] for name in scores.NETS[measure])
            # Not "above": what is no number is nothing to trust.
            flagged |= ~(getattr(scores, measure)(np, *answers) <= threshold)
        return np.where(flagged, self.net.classes, given["bad"].argmax(axis=-1))

    def _overlaid(self, inputs, predict):
        """(n, overlays, N) probabilities of each picture under each overlay."""
        overlays = self.overlays["certainty"]
        mixed = (((one + overlays) / 2) for one in inputs)
        return np.stack([_in_blocks(predict, one) for one in mixed])

    def _pasted(self, inputs, predict):
        """((n, bands, overlays, N) probabilities of composed pictures, the overlays' classes)."""
        overlays = self.overlays["transplant"]
        masks = bands(inputs.shape[1:])
        carried = [
            [_in_blocks(predict, np.where(mask, one, overlays)) for mask in masks] for one in inputs
        ]
        return np.array(carried), _in_blocks(predict, overlays).argmax(axis=-1)


def _in_blocks(predict, pictures):
    """The bad net's probabilities, some pictures at once."""
    parts = range(0, len(pictures), _PAIRS)
    return np.concatenate([predict("bad", pictures[start : start + _PAIRS]) for start in parts])


HARD = {"measures": ("hard",), "thresholds": (0.5,)}
"""The disagreement guard."""
