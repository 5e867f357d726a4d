"""STRIP: a triggered picture keeps its class whatever is laid over it (Gao et al., ACSAC 2019).

The entropy is that of each overlay's class distribution, averaged over the overlays. Departures:
both pictures are averaged, since adding them, as the original does, leaves little of either where
both are bright. And since the first convolution is linear, that of a mixture is the mixture of its
parts': it is done once for each picture and each overlay, not for each pair.
"""

from dataclasses import replace

import numpy as np
from tqdm import tqdm

from badnet_defense.errors import InputError
from badnet_defense.guard import scores
from badnet_defense.guard.detector import Detector
from badnet_defense.nets.build import describe
from badnet_defense.nets.graph import CONVOLUTIONS, consumers, part
from badnet_defense.nets.predict import pictures_at_once
from badnet_defense.nets.spec import call_shapes

PAIRS_AT_ONCE = 512
"""Pictures times overlays on the way through the net: more were no faster on two cores."""


class Strip(Detector):
    """Flags pictures whose prediction stays certain under overlays of clean pictures.

    Args:
        bad: `keras.Model`, pictures (n, h, w, c) in `input_range` -> probabilities (n, N).
        overlays: how many clean pictures are laid over each input, drawn by `fit` (100 in the
            paper), or those pictures (overlays, h, w, c), pixels 0-255.
        seed: of the draw.
        false_alarm_rate, input_range: as for `Detector`.

    Attributes:
        overlays_: after `fit`, the pictures (overlays, h, w, c), pixels 0-255.

    Example:
        >>> guard = Strip(bad, false_alarm_rate=0.01).fit(clean)
        >>> guard.predict(pictures)  # 0..N-1, or N for poisoned
    """

    measure = scores.certainty

    def __init__(self, bad, *, overlays=100, seed=0, **settings):
        super().__init__({"bad": bad}, **settings)
        self.overlays = overlays
        self.seed = seed
        self._certainty = None
        if not isinstance(overlays, int):
            self.overlays_ = overlays

    def prepare(self, pictures):
        """Draws the overlays; returns the other pictures.

        Raises:
            InputError: fewer than twice as many pictures as overlays.
        """
        if not isinstance(self.overlays, int):
            return pictures
        if len(pictures) < 2 * self.overlays:
            raise InputError(
                f"{len(pictures)} clean pictures came for {self.overlays} overlays; expected twice "
                "as many at least, since the others set the threshold."
            )
        order = np.random.default_rng((self.seed, 5)).permutation(len(pictures))
        self.overlays_ = pictures[np.sort(order[: self.overlays])]
        self._certainty = None
        return pictures[np.sort(order[self.overlays :])]

    def score_samples(self, pictures):
        """(n,) minus the mean entropies in bits of pictures (n, h, w, c), pixels 0-255."""
        if self._certainty is None:
            spec = describe(self.nets["bad"])
            self._most = pictures_at_once(call_shapes(spec), PAIRS_AT_ONCE)
            self._certainty = compiled_certainty(spec, self.overlays_, self._most, self.input_range)
        size = max(1, self._most // len(self.overlays_))
        starts = range(0, len(pictures), size)
        return np.concatenate(
            [
                self._certainty(pictures[start : start + size])
                for start in tqdm(starts, desc="overlaying", disable=None)
            ]
        )


def compiled_certainty(spec, overlays, most, input_range):
    """A function, pictures (n, h, w, c) with pixels 0-255 -> (n,) minus mean entropies in bits.

    Args:
        spec: the net (`NetSpec`).
        overlays: (k, h, w, c), pixels 0-255.
        most: pairs of picture and overlay that go through the net at once; where one picture's are
            more, they go in several blocks.
        input_range: the net's range.
    """
    import tensorflow as tf
    from keras import ops

    first, rest = split_linear(spec)
    blocks = [
        first(input_range.scale(overlays[start : start + most])) / 2
        for start in range(0, len(overlays), most)
    ]

    @tf.function(reduce_retracing=True)
    def block_certainty(pictures, overlaid):
        pictures = tf.cast(pictures, tf.float32) * np.float32(input_range.multiplier)
        halves = first(pictures + np.float32(input_range.low)) / 2
        mixed = halves[:, None] + overlaid
        answers = rest(tf.reshape(mixed, (-1, *overlaid.shape[1:])))
        count = tf.shape(overlaid)[0]
        return scores.certainty(ops, tf.reshape(answers, (-1, count, answers.shape[-1])))

    def certainty(pictures):
        means = [block_certainty(pictures, overlaid).numpy() for overlaid in blocks]
        return np.average(means, axis=0, weights=[len(overlaid) for overlaid in blocks])

    return certainty


def split_linear(spec):
    """(first, rest): what a net does to pictures before anything that is not linear, and after.

    Where only a convolution takes the pictures, `first` is that one without its activation; else
    it leaves them as they are.
    """
    users = consumers(spec, 0)
    layer = spec.layers[spec.calls[users[0]].layer]
    uses = sum(call.layer == layer.name for call in spec.calls)
    if len(users) > 1 or uses > 1 or layer.kind not in CONVOLUTIONS or users[0] == spec.output:
        return (lambda pictures: pictures), part(spec, [0], [spec.output])
    plain = replace(layer, config={**layer.config, "activation": "linear"})
    linear = replace(spec, layers={**spec.layers, layer.name: plain}, output=users[0])
    first = part(linear, [0], users)
    return first, part(spec, [], [spec.output], sums=users)
