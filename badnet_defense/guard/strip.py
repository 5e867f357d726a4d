"""STRIP: a triggered picture keeps its class whatever is laid over it (Gao et al., ACSAC 2019).

The entropy is that of each overlay's class distribution, averaged over the overlays. Departures:
both pictures are averaged, since adding them, as the original does, leaves little of either where
both are bright. The first convolution is done once for each picture and each overlay, not for each
pair (`badnet_defense.guard.linear_start`).
"""

import numpy as np
from tqdm import tqdm

from badnet_defense.errors import InputError
from badnet_defense.guard import scores
from badnet_defense.guard.detector import Detector
from badnet_defense.guard.linear_start import split_linear
from badnet_defense.nets.build import describe
from badnet_defense.nets.graph import without_softmax
from badnet_defense.nets.predict import pictures_at_once
from badnet_defense.nets.spec import call_shapes

PAIRS_AT_ONCE = 1024
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

    logits = without_softmax(spec)
    first, mixed, rest = split_linear(logits)
    blocks = [
        first(input_range.scale(overlays[start : start + most]))
        for start in range(0, len(overlays), most)
    ]

    @tf.function(jit_compile=True)  # thousands of exponentials and logarithms a picture: vectorised
    def mean_certainty(answers):
        return scores.certainty(ops, answers if logits is spec else ops.softmax(answers))

    @tf.function(reduce_retracing=True)
    def block_certainty(pictures, overlaid):
        pictures = tf.cast(pictures, tf.float32) * np.float32(input_range.multiplier)
        answers = rest(mixed(first(pictures + np.float32(input_range.low)), overlaid))
        count = tf.shape(overlaid)[1]
        return mean_certainty(tf.reshape(answers, (-1, count, answers.shape[-1])))

    def certainty(pictures):
        means = [block_certainty(pictures, overlaid).numpy() for overlaid in blocks]
        return np.average(means, axis=0, weights=[overlaid.shape[1] for overlaid in blocks])

    return certainty
