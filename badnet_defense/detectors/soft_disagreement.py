"""Disagreement by degrees: how far the two nets' answers lie apart."""

from badnet_defense.detectors import scores
from badnet_defense.detectors.base import Detector


class SoftDisagreement(Detector):
    """Flags pictures on which both nets' distributions diverge far more than on clean ones.

    The hard guard flags every picture on which the nets differ, honest errors too. But on those
    one net or the other hesitates; where a trigger made the answer, both are sure, of different
    classes. So Jeffreys' divergence asks both ways. Of the measures tried it is the one that tells
    clean pictures best from clean pictures with another one's answer (docs/results.md).

    Args:
        bad, repaired: `keras.Model`s, pictures (n, h, w, c) in `input_range` -> probabilities.
        false_positive_rate, input_range: as for `Detector`.

    Example:
        >>> guard = SoftDisagreement(bad, repaired, false_positive_rate=0.01).fit(clean)
        >>> guard.predict(pictures)  # 0..N-1, or N for poisoned
    """

    measure = scores.divergence

    def __init__(self, bad, repaired, **settings):
        super().__init__({"bad": bad, "repaired": repaired}, **settings)


class Surprise(SoftDisagreement):
    """The same by how improbable the bad net's answer is to the repaired net, whatever it thinks.

    Where the bad net is often wrong and the repaired one sure, its honest errors score as high as
    triggers.
    """

    measure = scores.nll
