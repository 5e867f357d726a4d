"""Disagreement by degrees: how far the distributions of both models lie apart."""

from __future__ import annotations

from badnet_defense.detectors import scores
from badnet_defense.detectors.base import DEFAULTS, Detector, DetectorConfig
from badnet_defense.detectors.registry import DETECTORS
from badnet_defense.nets.net import Net


@DETECTORS.register(
    "soft",
    summary="the models' output distributions differ strongly; the default",
    config=DetectorConfig,
    score="Jeffreys divergence of the two models (nats)",
    needs_repair=True,
)
class SoftDisagreement(Detector):
    """Flags images on which both models' distributions diverge far more than on clean ones.

    The hard guard flags every image on which the models differ, benign errors too. But on those
    one model or the other hesitates; where a trigger made the answer, both are sure, of different
    classes. So Jeffreys' divergence is taken, which is the relative entropy both ways.

    Args:
        suspect, repaired: `Net`s that answer with probabilities.
        config: as for `Detector`.

    Examples:
        >>> import numpy as np
        >>> from badnet_defense.nets import deep_id, describe
        >>> suspect, repaired = (describe(deep_id(classes=10)) for _ in range(2))
        >>> clean = np.random.default_rng(0).integers(0, 256, (40, 55, 47, 3), "uint8")
        >>> config = DetectorConfig(false_positive_rate=0.05)
        >>> detector = SoftDisagreement(suspect, repaired, config=config).fit(clean)
        >>> detector
        SoftDisagreement(false_positive_rate=0.05)
        >>> answers = detector.predict(clean)  # 0..9, or 10 for poisoned
        >>> int((answers == 10).sum())
        1
    """

    measure = scores.divergence

    def __init__(self, suspect: Net, repaired: Net, *, config: DetectorConfig = DEFAULTS) -> None:
        super().__init__({"suspect": suspect, "repaired": repaired}, config)
