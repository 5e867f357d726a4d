"""The detectors by name, how many clean images each takes, and detectors made by name.

A detector is one file: a subclass of `Detector` (or of `Overlaid`, where it composes each image
with clean ones) that registers itself with a config, a subclass of `DetectorConfig`. What else is
asked of it are facts of its registration:

- `needs_repair`, `needs_expert`: True where it takes the repaired model, the backdoor expert, as
  `__init__(suspect, repaired, expert, *, config)`;
- `score`: what its scores are, for the axis of a plot;
- `members`: names of the detectors that it joins, as `__init__(members, *, config)`;
- `has_threshold`: False where its rule has no threshold, so that its rate is only measured.

A detector that composes images has the field `overlays` in its config.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np

from badnet_defense.detectors.calibration import min_images
from badnet_defense.errors import InputError
from badnet_defense.nets.net import Net
from badnet_defense.registry import Registry

_MODULES = "hard_disagreement soft_disagreement nll backdoor_expert strip sentinet vote".split()
DETECTORS: Registry[Any] = Registry(
    "detector",
    "badnet_defense.detectors",
    tuple(f"badnet_defense.detectors.{module}" for module in _MODULES),
    renamed={"surprise": "nll"},
)
"""All run-time detectors by name."""
FOLDS = 5
"""Parts of the clean images in cross-fitting: each is scored by nets that never saw it."""
MIN_FOLD_IMAGES = 2
"""Fewest images of a fold."""
MIN_MEASURED = 5
"""Fewest clean images from which a rate is measured; its interval says how little few tell."""


def members_of(name: str) -> tuple[str, ...]:
    """The detectors that one is made of: itself, or those that it joins."""
    return DETECTORS[name].facts.get("members", (name,))


def roles_of(name: str) -> tuple[str, ...]:
    """Which nets a detector asks: "suspect", then "repaired" and "expert" where it needs them.

    Examples:
        >>> roles_of("expert"), roles_of("strip")
        (('suspect', 'repaired', 'expert'), ('suspect',))
    """
    needs = {"suspect": True, "repaired": needs_repair(name), "expert": needs_expert(name)}
    return tuple(role for role, needed in needs.items() if needed)


def name_of(detector: Any) -> str:
    """The name under which a detector's class is registered.

    Raises:
        ValueError: it is not registered.
    """
    for method in DETECTORS:
        if method.run is type(detector):
            return method.name
    raise ValueError(f"{type(detector).__name__} is no registered detector.")


def needs_repair(name: str) -> bool:
    """True where a detector asks a repaired model.

    Examples:
        >>> needs_repair("soft"), needs_repair("strip"), needs_repair("vote")
        (True, False, True)
    """
    return any(DETECTORS[one].facts.get("needs_repair", False) for one in members_of(name))


def needs_expert(name: str) -> bool:
    """True where a detector asks a backdoor expert."""
    return any(DETECTORS[one].facts.get("needs_expert", False) for one in members_of(name))


def has_threshold(name: str) -> bool:
    """False where a detector's rule has no threshold: its rate is only measured."""
    return DETECTORS[name].facts.get("has_threshold", True)


def overlays_needed(name: str) -> int:
    """How many clean images a detector composes others with; 0 where it composes none.

    Examples:
        >>> overlays_needed("strip"), overlays_needed("soft")
        (100, 0)
    """
    return max(DETECTORS[one].defaults().get("overlays", 0) for one in members_of(name))


def threshold_images(name: str, rate: float) -> int:
    """How many clean images a detector's threshold takes at least at a false-positive rate.

    Of several members each may have its own most anomalous image, so a joint threshold takes as
    many images above it as there are members.

    Examples:
        >>> threshold_images("soft", 0.01), threshold_images("vote", 0.01)
        (99, 199)
    """
    if not has_threshold(name):
        return MIN_MEASURED
    least = min_images(rate / len(members_of(name)))
    return max(least, FOLDS * MIN_FOLD_IMAGES) if needs_repair(name) else least


def check_enough(name: str, count: int, rate: float, *, source: str, fraction: float = 1.0) -> None:
    """Refuses too few clean images for a detector, before a repair or a fit is begun.

    Args:
        name: of the detector.
        count: how many clean images there are.
        rate: the target false-positive rate, in (0, 1).
        source: of the images, for the message.
        fraction: of the images that may set the threshold, in (0, 1]: 1 where the repair can be
            made again for cross-fitting, or learnt from none of them.

    Raises:
        InputError: too few.

    Examples:
        >>> check_enough("soft", 200, 0.01, source="clean.h5")
    """
    composed, threshold = overlays_needed(name), threshold_images(name, rate)
    needed = composed + math.ceil(threshold / fraction - 1e-9)
    if count >= needed:
        return
    parts = []
    if composed:
        parts += [f"{composed} to compose others with", f"{needed - composed} for the threshold"]
    if fraction < 1:
        parts += [
            f"only {fraction:.1%} of them may set the threshold, the repair learns from the rest"
        ]
    why = f" ({', '.join(parts)})" if parts else ""
    target = f" for a false-positive rate of {100 * rate:g} %" if has_threshold(name) else ""
    cure = "give more images"
    if has_threshold(name) and count > composed:
        cure += ", or ask for a higher rate"
    raise InputError(
        f"{source}: detector {name!r} needs at least {needed} clean images{target}{why}, got "
        f"{count}; {cure}."
    )


def make_detector(
    name: str,
    nets: dict[str, Net],
    *,
    false_positive_rate: float = 0.01,
    overlays: np.ndarray | None = None,
) -> Any:
    """A detector by its name, not yet fitted.

    Args:
        name: of the detector.
        nets: {"suspect": `Net`, "repaired": .., "expert": ..}; only what it asks is needed.
        false_positive_rate: the fraction of clean images that may be flagged, in (0, 1).
        overlays: (k, h, w, c) clean images, pixels 0-255, of which it takes as many as it needs;
            None: drawn from the images that `fit` is given.

    Examples:
        >>> from badnet_defense.nets import deep_id, describe
        >>> make_detector("strip", {"suspect": describe(deep_id(classes=10))})
        Strip(false_positive_rate=0.01, overlays=100, seed=0)
    """
    method = DETECTORS[name]
    config = method.config(false_positive_rate=false_positive_rate)
    settings: dict[str, Any] = {"config": config}
    if "members" in method.facts:
        members = [
            make_detector(one, nets, false_positive_rate=false_positive_rate, overlays=overlays)
            for one in method.facts["members"]
        ]
        return method.run(members, **settings)
    if overlays is not None and "overlays" in {field.name for field in fields(config)}:
        settings["overlays"] = overlays[: config.overlays]
    return method.run(*(nets[role] for role in roles_of(name)), **settings)
