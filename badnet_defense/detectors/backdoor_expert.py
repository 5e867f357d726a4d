"""A third net that knows the backdoor and nothing else.

Xie et al., "BaDExpert: Extracting Backdoor Functionality for Accurate Backdoor Input Detection",
ICLR 2024: a net that is gently tuned on wrongly labelled clean images forgets its task long
before its backdoor. What the expert still recognises, and the repaired net does not, is poisoned.
Departures: the score is the logarithm of the ratio of both confidences, and its threshold comes
from clean images that no net was tuned on.
"""

from __future__ import annotations

from badnet_defense.detectors import scores
from badnet_defense.detectors.base import DEFAULTS, Detector, DetectorConfig
from badnet_defense.detectors.registry import DETECTORS
from badnet_defense.nets.net import Net


@DETECTORS.register(
    "expert",
    summary="a model that kept only the backdoor recognises the image; trains a third model",
    config=DetectorConfig,
    score="log-confidence ratio of expert and repaired model (nats)",
    paper="Xie et al., ICLR 2024",
    needs_repair=True,
    needs_expert=True,
)
class BackdoorExpert(Detector):
    """Flags images by the log-confidence ratio of the backdoor expert and the repaired model.

    Args:
        suspect, repaired, expert: `Net`s that answer with probabilities; `expert` is what
            `unlearn_clean_task` made of `suspect`.
        config: as for `Detector`.

    Examples:
        >>> from badnet_defense.nets import deep_id, describe
        >>> nets = [describe(deep_id(classes=10)) for _ in range(3)]
        >>> BackdoorExpert(*nets)
        BackdoorExpert(false_positive_rate=0.01)
    """

    measure = scores.expert_log_ratio

    def __init__(
        self,
        suspect: Net,
        repaired: Net,
        expert: Net,
        *,
        config: DetectorConfig = DEFAULTS,
    ) -> None:
        super().__init__({"suspect": suspect, "repaired": repaired, "expert": expert}, config)
