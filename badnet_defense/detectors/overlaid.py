"""What detectors share that ask the net about a picture together with clean pictures."""

import numpy as np
from tqdm import tqdm

from badnet_defense.detectors.base import Detector
from badnet_defense.errors import InputError
from badnet_defense.nets.build import describe
from badnet_defense.nets.outputs import is_distribution
from badnet_defense.nets.shapes import images_at_once

PAIRS_AT_ONCE = 1024
"""Composed pictures on the way through the net: more were no faster on two cores."""


class Overlaid(Detector):
    """A detector that composes each picture with several clean ones, and asks the bad net alone.

    Args:
        bad: `keras.Model`, pictures (n, h, w, c) in `input_range` -> probabilities (n, N).
        overlays: how many clean pictures go with each input, drawn by `fit`, or those pictures
            (overlays, h, w, c), pixels 0-255.
        seed: of the draw.
        false_positive_rate, input_range: as for `Detector`.

    Attributes:
        overlays_: after `fit`, the pictures (overlays, h, w, c), pixels 0-255.
    """

    def __init__(self, bad, *, overlays, seed=0, **settings):
        super().__init__({"bad": bad}, **settings)
        self.overlays = overlays
        self.seed = seed
        self._score = None
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
        self._score = None
        return pictures[np.sort(order[self.overlays :])]

    def compiled(self, spec, most):
        """A function, pictures (n, h, w, c) with pixels 0-255 -> (n,) scores.

        Args:
            spec: the net (`Net`).
            most: composed pictures that may go through the net at once.
        """
        raise NotImplementedError

    def anomaly_score(self, pictures):
        """(n,) scores of pictures (n, h, w, c), pixels 0-255; higher is more suspicious."""
        if self._score is None:
            spec = describe(self.nets["bad"])
            if not is_distribution(spec):
                raise InputError(
                    "the bad net answers with numbers that are no probabilities of two or more "
                    "classes; give it a softmax at its end (nets.outputs.as_probabilities does it)."
                )
            self._most = images_at_once(spec, PAIRS_AT_ONCE)
            self._score = self.compiled(spec, self._most)
        size = max(1, self._most // len(self.overlays_))
        starts = range(0, len(pictures), size)
        return np.concatenate(
            [
                self._score(pictures[start : start + size])
                for start in tqdm(starts, desc="overlaying", disable=None)
            ]
        )
