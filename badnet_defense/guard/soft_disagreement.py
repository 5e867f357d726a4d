"""Disagreement by degrees: how little the repaired net thinks of the bad net's answer."""

from badnet_defense.guard import scores
from badnet_defense.guard.detector import Detector


class SoftDisagreement(Detector):
    """Flags pictures whose answer by the bad net is improbable to the repaired net.

    The hard guard flags every picture on which the nets differ, honest errors too. A repaired net
    that merely hesitates leaves the bad net's answer some probability; where a trigger made the
    answer it leaves almost none.

    Args:
        bad, repaired: `keras.Model`s, pictures (n, h, w, c) in `input_range` -> probabilities.
        false_alarm_rate, input_range: as for `Detector`.

    Example:
        >>> guard = SoftDisagreement(bad, repaired, false_alarm_rate=0.01).fit(clean)
        >>> guard.predict(pictures)  # 0..N-1, or N for poisoned
    """

    measure = scores.surprise

    def __init__(self, bad, repaired, **settings):
        super().__init__({"bad": bad, "repaired": repaired}, **settings)


class Divergence(SoftDisagreement):
    """The same by how far the nets' distributions lie apart (Jensen-Shannon divergence)."""

    measure = scores.divergence
