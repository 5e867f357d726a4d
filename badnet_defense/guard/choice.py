"""The detectors by name, and those made of a bad net, its repair and clean pictures."""

from badnet_defense.guard.backdoor_expert import BackdoorExpert
from badnet_defense.guard.hard_disagreement import HardDisagreement
from badnet_defense.guard.soft_disagreement import SoftDisagreement, Surprise
from badnet_defense.guard.strip import Strip
from badnet_defense.guard.vote import Vote

PAIRED = {"hard": HardDisagreement, "soft": SoftDisagreement, "surprise": Surprise}
NAMES = (*PAIRED, "expert", "strip", "vote")
VOTERS = ("soft", "strip")
OVERLAYS = 100


def needs_repair(name):
    """True where a detector asks a repaired net."""
    return name != "strip"


def make_detector(name, nets, overlays, **settings):
    """A detector, not yet fitted.

    Args:
        name: one of `NAMES`; "vote" joins those of `VOTERS`.
        nets: {"bad": `keras.Model`, "repaired": .., "expert": ..}; only what it asks is needed.
        overlays: (k, h, w, c) pictures for STRIP, pixels 0-255.
        settings: `false_alarm_rate` and `input_range`.
    """
    if name == "vote":
        members = [make_detector(one, nets, overlays, **settings) for one in VOTERS]
        return Vote(members, **settings)
    if name == "strip":
        return Strip(nets["bad"], overlays=overlays, **settings)
    if name == "expert":
        return BackdoorExpert(nets["bad"], nets["repaired"], nets["expert"], **settings)
    return PAIRED[name](nets["bad"], nets["repaired"], **settings)
