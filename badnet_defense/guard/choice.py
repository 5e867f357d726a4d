"""The detectors by name, and those made of a bad net, its repair and clean pictures."""

from badnet_defense.guard.backdoor_expert import BackdoorExpert
from badnet_defense.guard.hard_disagreement import HardDisagreement
from badnet_defense.guard.sentinet import SentiNet
from badnet_defense.guard.soft_disagreement import SoftDisagreement, Surprise
from badnet_defense.guard.strip import Strip
from badnet_defense.guard.vote import Vote

PAIRED = {"hard": HardDisagreement, "soft": SoftDisagreement, "surprise": Surprise}
OVERLAID = {"strip": (Strip, 100), "sentinet": (SentiNet, 16)}
"""Those that compose pictures with clean ones and need no repair, and with how many."""
NAMES = (*PAIRED, "expert", *OVERLAID, "vote")
VOTERS = ("soft", "sentinet")


def needs_repair(name):
    """True where a detector asks a repaired net."""
    return name not in OVERLAID


def overlays_needed(name):
    """How many clean pictures a detector composes others with; 0 where it composes none."""
    members = VOTERS if name == "vote" else [name]
    return max(OVERLAID[one][1] if one in OVERLAID else 0 for one in members)


def make_detector(name, nets, overlays, **settings):
    """A detector, not yet fitted.

    Args:
        name: one of `NAMES`; "vote" joins those of `VOTERS`.
        nets: {"bad": `keras.Model`, "repaired": .., "expert": ..}; only what it asks is needed.
        overlays: (k, h, w, c) clean pictures, pixels 0-255; as many as it needs are taken.
        settings: `false_alarm_rate` and `input_range`.
    """
    if name == "vote":
        members = [make_detector(one, nets, overlays, **settings) for one in VOTERS]
        return Vote(members, **settings)
    if name in OVERLAID:
        kind, count = OVERLAID[name]
        return kind(nets["bad"], overlays=overlays[:count], **settings)
    if name == "expert":
        return BackdoorExpert(nets["bad"], nets["repaired"], nets["expert"], **settings)
    return PAIRED[name](nets["bad"], nets["repaired"], **settings)
