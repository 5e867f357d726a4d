"""A third net that knows the backdoor and nothing else.

Xie et al., "BaDExpert: Extracting Backdoor Functionality for Accurate Backdoor Input Detection",
ICLR 2024: a net that is gently tuned on wrongly labelled clean pictures forgets its task long
before its backdoor. What the expert still recognises, and the repaired net does not, is poisoned.
Departures: the score is the logarithm of the ratio of both confidences, and its threshold comes
from clean pictures that no net was tuned on.
"""

from badnet_defense.detectors import scores
from badnet_defense.detectors.base import Detector


class BackdoorExpert(Detector):
    """Flags pictures of whose answer the backdoor expert is surer than the repaired net.

    Args:
        bad, repaired, expert: `keras.Model`s, pictures (n, h, w, c) in `input_range` ->
            probabilities; `expert` is what `unlearn_clean_task` made of `bad`.
        false_positive_rate, input_range: as for `Detector`.
    """

    measure = scores.expert_log_ratio

    def __init__(self, bad, repaired, expert, **settings):
        super().__init__({"bad": bad, "repaired": repaired, "expert": expert}, **settings)
