"""Detectors of every kind for small nets."""

import numpy as np
from guard_pairs import PICTURES, two_nets
from small_nets import images

from badnet_defense.detectors.backdoor_expert import BackdoorExpert
from badnet_defense.detectors.hard_disagreement import HardDisagreement
from badnet_defense.detectors.sentinet import SentiNet
from badnet_defense.detectors.soft_disagreement import SoftDisagreement, Surprise
from badnet_defense.detectors.strip import Strip
from badnet_defense.detectors.vote import Vote
from badnet_defense.nets import copy_model

CLEAN = images(300, shape=PICTURES.shape[1:], seed=5).images
RATE = 0.1
ALL = ("hard", "soft", "nll", "expert", "strip", "sentinet", "vote")


def three_nets():
    """A bad net, a repaired one and an expert."""
    bad, repaired = two_nets()
    expert = copy_model(bad)
    rng = np.random.default_rng(8)
    expert.set_weights([w * (1 + rng.normal(0, 0.5, w.shape)) for w in bad.get_weights()])
    return bad, repaired, expert


def made(name, nets, **settings):
    """A detector by its name."""
    bad, repaired, expert = nets
    settings = {"false_positive_rate": RATE, **settings}
    if name == "strip":
        return Strip(bad, overlays=12, **settings)
    if name == "sentinet":
        return SentiNet(bad, overlays=5, **settings)
    if name == "expert":
        return BackdoorExpert(bad, repaired, expert, **settings)
    if name == "vote":
        return Vote([made(one, nets) for one in ("soft", "strip", "sentinet")], **settings)
    kinds = {"hard": HardDisagreement, "soft": SoftDisagreement, "nll": Surprise}
    return kinds[name](bad, repaired, **settings)
