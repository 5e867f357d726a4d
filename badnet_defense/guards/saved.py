"""A guard as plain data: its nets, what it computes from their answers, and its thresholds."""

from dataclasses import dataclass, field

import numpy as np

from badnet_defense.detectors import scores
from badnet_defense.detectors.bands import PLACES, bands
from badnet_defense.nets.answers import classes_of
from badnet_defense.nets.forward import stable_proba
from badnet_defense.nets.input_range import InputRange
from badnet_defense.nets.net import Net
from badnet_defense.nets.shapes import BYTES_AT_ONCE, cost

_PAIRS = 128  # NumPy's convolutions copy each window: more pairs at once cost memory


@dataclass(frozen=True)
class SavedGuard:
    """A guard read from its file, or a net that answers alone.

    Attributes:
        nets: {"bad": `Net`, ..}.
        measures: names of functions of `scores`; none for a net that answers alone.
        thresholds: one for each; a picture is flagged where any score is above its own.
        overlays: {measure: (overlays, h, w, c) `float32` in the nets' range} for those that ask
            about composed pictures.
        input_range: the `InputRange` that it was made for; None where the file does not say.
        hosts: classes of the overlays of one of `scores.HOSTED`, as the file says; None: the
            suspect model's.
    """

    nets: dict[str, Net]
    measures: tuple[str, ...] = ()
    thresholds: tuple[float, ...] = ()
    overlays: dict[str, np.ndarray] = field(default_factory=dict)
    input_range: InputRange | None = None
    hosts: tuple[int, ...] | None = None

    @property
    def net(self):
        """The suspect net."""
        return self.nets["bad"]

    def cost(self):
        """(multiplications for one image, bytes of memory) of the answers in NumPy, about."""
        costs = {name: cost(net) for name, net in self.nets.items()}
        asked = sum(
            len(images) * (2 * PLACES if measure == "paste_success" else 1)
            for measure, images in self.overlays.items()
        )
        runs = 3 * sum(one.multiplications for one in costs.values())
        peak = max(one.peak for one in costs.values())
        composed = 4 * sum(images.size for images in self.overlays.values())
        memory = 2**30 + 4 * max(BYTES_AT_ONCE, 4 * peak) + 4 * composed
        return runs + asked * costs["bad"].multiplications, memory

    def answers(self, inputs, predict=None):
        """(n,) answers 0..N; N, too, where a net's answer is not finite or hangs on rounding.

        Args:
            inputs: (n, h, w, c) `float32` in the nets' range.
            predict: (name of a net, inputs) -> probabilities (n, N); default: NumPy alone.
        """
        given = {
            name: predict(name, inputs) if predict else stable_proba(net, inputs)
            for name, net in self.nets.items()
        }
        predict = predict or (lambda name, inputs: self.nets[name].numpy_proba(inputs))
        found = [self._scores(measure, inputs, given, predict) for measure in self.measures]
        own = classes_of(np, given["bad"])
        return scores.apply_thresholds(np, own, found, self.thresholds, self.net.classes)

    def _scores(self, measure, inputs, given, predict):
        """(n,) scores by one of the measures; `given` are the nets' probabilities."""
        if measure == "neg_entropy":
            return self._certainties(inputs, predict)
        if measure in scores.HOSTED:
            return self._pasted(measure, inputs, given["bad"], predict)
        return getattr(scores, measure)(np, *(given[name] for name in scores.NETS[measure]))

    def _certainties(self, inputs, predict):
        """(n,) of each picture under each overlay; one picture's answers in memory at a time."""
        overlays = self.overlays["neg_entropy"]
        mixed = ((one + overlays) / 2 for one in inputs)
        found = [scores.neg_entropy(np, _in_blocks(predict, pairs)[None]) for pairs in mixed]
        return np.concatenate(found)

    def _pasted(self, measure, inputs, own, predict):
        """(n,) of each band of each picture on each overlay; one band's answers at a time."""
        overlays = self.overlays[measure]
        hosts = self.hosts
        if hosts is None:
            hosts = classes_of(np, _in_blocks(predict, overlays))
        hosts = np.asarray(hosts)

        def score(picture, own, mask):
            carried = _in_blocks(predict, np.where(mask, picture, overlays))
            return getattr(scores, measure)(np, own[None], carried[None, None], hosts)[0]

        masks = bands(inputs.shape[1:])
        pairs = zip(inputs, own, strict=True)
        return np.array([max(score(one, answer, mask) for mask in masks) for one, answer in pairs])


def _in_blocks(predict, pictures):
    """The bad net's probabilities, some pictures at once."""
    parts = range(0, len(pictures), _PAIRS)
    return np.concatenate([predict("bad", pictures[start : start + _PAIRS]) for start in parts])


HARD = {"measures": ("hard",), "thresholds": (0.5,)}
"""The disagreement guard."""
