"""SentiNet: a trigger takes its class along wherever it is pasted (Chou et al., SPW 2020).

Regions of the image are pasted onto clean images of other classes, at their own place; one that
takes the image's class along to nearly all of them holds a trigger, while a band of a clean
face or sign seldom does. It sees what fits into a third of the image and works wherever it lies:
a trigger that works on some classes only, or sends each class to another one, is pasted onto images
of other classes, where it does not do the same, and is missed. Departures: fixed bands across and
down instead of regions that a saliency method finds (which a trigger can mislead), and no second
axis with inert patterns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from badnet_defense.detectors import scores
from badnet_defense.detectors.bands import PLACES, bands
from badnet_defense.detectors.linear_start import split_linear
from badnet_defense.detectors.overlaid import Overlaid, OverlayConfig
from badnet_defense.detectors.registry import DETECTORS
from badnet_defense.errors import InputError
from badnet_defense.nets.graph import without_softmax
from badnet_defense.nets.net import Net


@dataclass(frozen=True)
class SentiNetConfig(OverlayConfig):
    """The settings of `SentiNet`: those of `OverlayConfig`, with fewer overlays."""

    overlays: int = 16


DEFAULTS = SentiNetConfig()


@DETECTORS.register(
    "sentinet",
    summary="pasting a strip of the image onto others transfers its class; needs no repair",
    config=SentiNetConfig,
    score="log takeover by a pasted band (nats)",
    paper="Chou et al., SPW 2020",
)
class SentiNet(Overlaid):
    """Flags images of which a band takes their class along to clean images.

    Arguments and attributes as for `Overlaid`; the clean images are what the bands are pasted on.

    Examples:
        >>> from badnet_defense.nets import deep_id, describe
        >>> SentiNet(describe(deep_id(classes=10)))
        SentiNet(false_positive_rate=0.01, overlays=16, seed=0)
    """

    regions = 2 * PLACES

    @staticmethod
    def measure(xp: Any, suspect: Any, composed: Any, hosts: Any) -> Any:
        """(n,) scores from the answers to (n, regions * overlays) composed images."""
        shape = (-1, 2 * PLACES, len(hosts), suspect.shape[-1])
        return scores.takeover(xp, suspect, xp.reshape(composed, shape), hosts)

    @staticmethod
    def compose(xp: Any, images: Any, overlays: Any) -> Any:
        """(n, regions * overlays, h, w, c): each band of each image pasted onto each overlay."""
        shape = tuple(overlays.shape[1:])
        masks = bands(shape)[:, None]
        pasted = xp.where(masks, xp.reshape(images, (-1, 1, 1, *shape)), overlays)
        return xp.reshape(pasted, (-1, len(masks) * overlays.shape[0], *shape))

    def __init__(
        self,
        suspect: Net,
        *,
        overlays: np.ndarray | None = None,
        config: OverlayConfig = DEFAULTS,
    ) -> None:
        super().__init__(suspect, overlays=overlays, config=config)

    def compiled(self, most: int) -> Callable[[np.ndarray], np.ndarray]:
        """A function, images (n, h, w, c) with pixels 0-255 -> (n,) scores in nats.

        The first convolution, being linear, is done once for each band of an image and once for
        the rest of each overlay, not for each pair.
        """
        import tensorflow as tf
        from keras import ops

        net = self.suspect
        logits = without_softmax(net)
        first, mixed, rest = split_linear(logits)
        shown = tf.constant(net.input_range.scale(self.overlays_))
        hosts = net.predict(self.overlays_)
        if len(set(hosts)) < 2:
            raise InputError(
                f"all {len(hosts)} clean images that bands are pasted on are predicted as class "
                f"{hosts[0]}; SentiNet needs images of several classes."
            )
        masks = bands(net.input_shape).astype(np.float32)
        blocks = [shown[start : start + most] for start in range(0, len(shown), most)]

        @tf.function(reduce_retracing=True)
        def taken_over(inputs: Any, mask: Any, own_answers: Any) -> Any:
            # `first` halves, since it is made for averages; here the parts are to be added.
            own = first(2 * mask * inputs)
            parts = [rest(mixed(own, first(2 * (1 - mask) * block))) for block in blocks]
            answers = [
                tf.reshape(one, (tf.shape(inputs)[0], 1, -1, one.shape[-1])) for one in parts
            ]
            answers = tf.concat(answers, axis=2)
            answers = answers if logits is net else tf.nn.softmax(answers)
            return scores.takeover(ops, own_answers, answers, hosts)

        def score(images: np.ndarray) -> np.ndarray:
            inputs = net.input_range.scale(images)
            own = net.model(inputs, training=False)
            return np.max([taken_over(inputs, mask, own) for mask in masks], axis=0)

        return score
