"""Disagreement by the probability that the repaired model gives to the suspect model's answer."""

from __future__ import annotations

from badnet_defense.detectors import scores
from badnet_defense.detectors.base import DetectorConfig
from badnet_defense.detectors.registry import DETECTORS
from badnet_defense.detectors.soft_disagreement import SoftDisagreement


@DETECTORS.register(
    "nll",
    summary="the suspect model's answer is improbable to the repaired model",
    config=DetectorConfig,
    score="negative log-likelihood under the repaired model (nats)",
    needs_repair=True,
)
class NLL(SoftDisagreement):
    """Flags images by the repaired model's negative log-likelihood of the suspect model's answer.

    Where the suspect model is often wrong and the repaired one sure, its benign errors score as
    high as triggers do. Arguments and attributes as for `SoftDisagreement`.

    Examples:
        >>> from badnet_defense.nets import deep_id, describe
        >>> suspect, repaired = (describe(deep_id(classes=10)) for _ in range(2))
        >>> NLL(suspect, repaired)
        NLL(false_positive_rate=0.01)
    """

    measure = scores.nll
