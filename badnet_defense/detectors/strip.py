"""STRIP: a triggered image keeps its class whatever is laid over it (Gao et al., ACSAC 2019).

The entropy is that of each overlay's class distribution, averaged over the overlays. Departures:
both images are averaged, since adding them, as the original does, leaves little of either where
both are bright. The first convolution is done once for each image and each overlay, not for each
pair (`badnet_defense.detectors.linear_start`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from badnet_defense.detectors import scores
from badnet_defense.detectors.linear_start import split_linear
from badnet_defense.detectors.overlaid import Overlaid, OverlayConfig
from badnet_defense.detectors.registry import DETECTORS
from badnet_defense.nets.graph import without_softmax
from badnet_defense.nets.net import Net
from badnet_defense.nets.scaling import scaled_images

DEFAULTS = OverlayConfig()


@DETECTORS.register(
    "strip",
    summary="the class stays under overlaid clean images; needs no repair",
    config=OverlayConfig,
    score="minus mean entropy under overlays (bits)",
    paper="Gao et al., ACSAC 2019",
)
class Strip(Overlaid):
    """Flags images whose prediction stays certain under overlays of clean images.

    Arguments and attributes as for `Overlaid`; 100 overlays as in the paper.

    Examples:
        >>> from badnet_defense.nets import deep_id, describe
        >>> clean = np.random.default_rng(0).integers(0, 256, (40, 55, 47, 3), "uint8")
        >>> config = OverlayConfig(false_positive_rate=0.1, overlays=5)
        >>> detector = Strip(describe(deep_id(classes=10)), config=config).fit(clean)
        >>> detector.predict(clean[:2]).shape  # 0..9, or 10 for poisoned
        (2,)
    """

    @staticmethod
    def measure(xp: Any, suspect: Any, composed: Any, hosts: Any) -> Any:
        """(n,) scores from the answers to (n, overlays) composed images."""
        return scores.neg_entropy(xp, composed)

    @staticmethod
    def compose(xp: Any, images: Any, overlays: Any) -> Any:
        """(n, overlays, h, w, c): each image averaged with each overlay."""
        return (xp.expand_dims(images, 1) + overlays) / 2

    def __init__(
        self,
        suspect: Net,
        *,
        overlays: np.ndarray | None = None,
        config: OverlayConfig = DEFAULTS,
    ) -> None:
        super().__init__(suspect, overlays=overlays, config=config)

    def compiled(self, most: int) -> Callable[[np.ndarray], np.ndarray]:
        """A function, images (n, h, w, c) with pixels 0-255 -> (n,) minus mean entropies."""
        return compiled_neg_entropy(self.suspect, self.overlays_, most)


def compiled_neg_entropy(
    net: Net, overlays: np.ndarray, most: int
) -> Callable[[np.ndarray], np.ndarray]:
    """A function, images (n, h, w, c) with pixels 0-255 -> (n,) minus mean entropies in bits.

    Args:
        net: the suspect model.
        overlays: (k, h, w, c), pixels 0-255.
        most: pairs of image and overlay that go through the net at once; where one image's are
            more, they go in several blocks.
    """
    import tensorflow as tf
    from keras import ops

    logits = without_softmax(net)
    first, mixed, rest = split_linear(logits)
    blocks = [
        first(net.input_range.scale(overlays[start : start + most]))
        for start in range(0, len(overlays), most)
    ]

    @tf.function(jit_compile=True)  # thousands of exponentials and logarithms per image: vectorised
    def mean_neg_entropy(answers: Any) -> Any:
        return scores.neg_entropy(ops, answers if logits is net else ops.softmax(answers))

    @tf.function(reduce_retracing=True)
    def block_neg_entropy(images: Any, overlaid: Any) -> Any:
        answers = rest(mixed(first(scaled_images(images, net.input_range)), overlaid))
        count = tf.shape(overlaid)[1]
        return mean_neg_entropy(tf.reshape(answers, (-1, count, answers.shape[-1])))

    def neg_entropy(images: np.ndarray) -> np.ndarray:
        means = [block_neg_entropy(images, overlaid).numpy() for overlaid in blocks]
        return np.average(means, axis=0, weights=[overlaid.shape[1] for overlaid in blocks])

    return neg_entropy
