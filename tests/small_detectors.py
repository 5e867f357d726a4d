"""Detectors of every kind for small nets."""

from dataclasses import replace

import numpy as np
from guard_pairs import PICTURES, two_nets
from small_nets import images

from badnet_defense.detectors import DETECTORS
from badnet_defense.detectors.vote import Vote
from badnet_defense.nets import copy_model, describe

CLEAN = images(300, shape=PICTURES.shape[1:], seed=5).images
RATE = 0.1
ALL = DETECTORS.names()
OVERLAYS = {"strip": 12, "sentinet": 5}


def three_nets():
    """A suspect model, a repaired one and an expert, as `Net`s."""
    bad, repaired = two_nets()
    expert = copy_model(bad)
    rng = np.random.default_rng(8)
    expert.set_weights([w * (1 + rng.normal(0, 0.5, w.shape)) for w in bad.get_weights()])
    return describe(bad), describe(repaired), describe(expert)


def made(name, nets, *, false_positive_rate=RATE, **settings):
    """A detector by its name, with few overlays; the vote has a member more."""
    method = DETECTORS[name]
    config = method.config(false_positive_rate=false_positive_rate)
    if name == "vote":
        return Vote([made(one, nets) for one in ("soft", "strip", "sentinet")], config=config)
    if name in OVERLAYS:
        config = replace(config, overlays=OVERLAYS[name])
    facts = method.facts
    asked = [True, facts.get("needs_repair"), facts.get("needs_expert")]
    chosen = [net for net, needed in zip(nets, asked, strict=True) if needed]
    return method.run(*chosen, config=config, **settings)
