"""The detectors by name, and those made of a bad net, its repair and clean pictures."""

import math

from badnet_defense.detectors.backdoor_expert import BackdoorExpert
from badnet_defense.detectors.calibration import min_images
from badnet_defense.detectors.hard_disagreement import HardDisagreement
from badnet_defense.detectors.sentinet import SentiNet
from badnet_defense.detectors.soft_disagreement import SoftDisagreement, Surprise
from badnet_defense.detectors.strip import Strip
from badnet_defense.detectors.vote import Vote
from badnet_defense.errors import InputError

PAIRED = {"hard": HardDisagreement, "soft": SoftDisagreement, "nll": Surprise}
OVERLAID = {"strip": (Strip, 100), "sentinet": (SentiNet, 16)}
"""Those that compose pictures with clean ones and need no repair, and with how many."""
NAMES = (*PAIRED, "expert", *OVERLAID, "vote")
MEMBERS = ("soft", "sentinet")
FOLDS = 5
"""Parts of the clean images in cross-fitting: each is scored by nets that never saw it."""
LEAST_OF_FOLD = 2
"""Images of each part at least."""
LEAST_MEASURED = 5
"""Clean images from which a rate is measured at least; its interval says how little few tell."""


def needs_repair(name):
    """True where a detector asks a repaired net."""
    return name not in OVERLAID


def overlays_needed(name):
    """How many clean pictures a detector composes others with; 0 where it composes none."""
    members = MEMBERS if name == "vote" else [name]
    return max(OVERLAID[one][1] if one in OVERLAID else 0 for one in members)


def threshold_images(name, rate):
    """How many clean images a detector's threshold takes at least at a false-positive rate.

    Of a vote's members each may have its own oddest image, so a joint threshold takes as many
    images above it as there are members. The hard guard has no threshold to set: its rate is only
    measured.
    """
    if name == "hard":
        return LEAST_MEASURED
    least = min_images(rate / (len(MEMBERS) if name == "vote" else 1))
    return max(least, FOLDS * LEAST_OF_FOLD) if needs_repair(name) else least


def check_enough(name, count, rate, *, source, share=1.0):
    """Refuses too few clean images for a detector, before a repair or a fit is begun.

    Args:
        name: one of `NAMES`.
        count: how many clean images came.
        rate: the false-positive rate that is asked for, in (0, 1).
        source: of the images, for the message.
        share: of the images that may set the threshold, in (0, 1]: 1 where the repair can be made
            again for cross-fitting, or learnt from none of them.

    Raises:
        InputError: too few.
    """
    composed, threshold = overlays_needed(name), threshold_images(name, rate)
    needed = composed + math.ceil(threshold / share - 1e-9)
    if count >= needed:
        return
    parts = []
    if composed:
        parts += [f"{composed} to compose others with", f"{needed - composed} for the threshold"]
    if share < 1:
        parts += [
            f"only {share:.1%} of them may set the threshold, the repair learns from the rest"
        ]
    why = f" ({', '.join(parts)})" if parts else ""
    asked = "" if name == "hard" else f" for a false-positive rate of {100 * rate:g} %"
    cure = "give more images"
    if name != "hard" and count > composed:
        cure += ", or ask for a higher rate"
    raise InputError(
        f"{source}: detector {name!r} needs at least {needed} clean images{asked}{why}, got "
        f"{count}; {cure}."
    )


def make_detector(name, nets, overlays, **settings):
    """A detector, not yet fitted.

    Args:
        name: one of `NAMES`; "vote" joins those of `MEMBERS`.
        nets: {"bad": `keras.Model`, "repaired": .., "expert": ..}; only what it asks is needed.
        overlays: (k, h, w, c) clean pictures, pixels 0-255; as many as it needs are taken.
        settings: `false_positive_rate` and `input_range`.
    """
    if name == "vote":
        members = [make_detector(one, nets, overlays, **settings) for one in MEMBERS]
        return Vote(members, **settings)
    if name in OVERLAID:
        kind, count = OVERLAID[name]
        return kind(nets["bad"], overlays=overlays[:count], **settings)
    if name == "expert":
        return BackdoorExpert(nets["bad"], nets["repaired"], nets["expert"], **settings)
    return PAIRED[name](nets["bad"], nets["repaired"], **settings)
