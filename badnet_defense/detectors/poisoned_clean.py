"""Images among the clean ones that behave like triggered ones, reported before a repair.

A repair that is tuned on triggered images labelled with the target learns the backdoor anew, and
nothing shows it afterwards: both models agree. The suspect model alone tells them apart, since a
trigger takes its class along to other images: under overlays (STRIP) and in a pasted band
(SentiNet). A group of images that score apart from all others is reported, never left out silently.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from badnet_defense.detectors.bands import bands
from badnet_defense.detectors.sentinet import SentiNet
from badnet_defense.detectors.strip import Strip
from badnet_defense.errors import InputError
from badnet_defense.evaluation.tails import Tail, separated_tail
from badnet_defense.io.dataset import Dataset
from badnet_defense.nets.net import Net, call_shapes

log = logging.getLogger(__name__)

MAX_IMAGES = 1000
"""At most this many images, drawn by the seed, are examined."""
MIN_IMAGES = 100
"""With fewer images, no group can stand apart."""
MAX_VALUES = 3e10
"""Values that the net may compute on the way; DeepID takes half of it for `MAX_IMAGES` images."""
OVERLAYS = 16
MAX_CHANCE = 1e-12
"""How improbable a group must be: some classes carry along by nature. 8 of 2,500 clean traffic
signs did (a yellow square), with a chance of 1e-9; 50 triggered ones among them had 1e-55."""
MAX_NAMED = 20
"""At most this many images are named in the sentence; the result has all."""


def find_poisoned(suspect: Net, data: Dataset, *, seed: int = 0) -> dict[str, Any]:
    """The images that the suspect model treats as triggered, if a group of them stands apart.

    Args:
        suspect: the suspect model.
        data: clean images; labels play no part.
        seed: of the images that are examined and of the overlays.

    Returns:
        {"looked_at": how many images were examined, 0 where it cannot be told, "images": the
        positions of those that stand apart, "answer": the class that most of them are predicted
        as, "answered": how many are, "by": "strip", "sentinet" or None}.
    """
    most = _affordable(suspect)
    if min(len(data), most) < MIN_IMAGES:
        why = "the net is too large" if most < MIN_IMAGES else f"{len(data)} images are too few"
        log.info("%s: not searched for poisoned images, %s", data.source, why)
        return _figures(None, None, np.arange(0))
    order = np.random.default_rng((seed, 11)).permutation(len(data))
    places = np.sort(order[:most])
    images, overlays = data.images[places], data.images[order[-OVERLAYS:]]
    answers = suspect.predict(images)
    name, tail = None, None
    for detector in (Strip(suspect, overlays=overlays), SentiNet(suspect, overlays=overlays)):
        candidate = type(detector).__name__.lower()
        try:
            found = separated_tail(detector.anomaly_score(images), answers)
        except InputError as error:  # the overlays are all of one class
            log.info(
                "%s: not searched for poisoned images by %s: %s", data.source, candidate, error
            )
            continue
        if found and found.chance < min(MAX_CHANCE, tail.chance if tail else 1):
            name, tail = candidate, found
    return _figures(name, tail, places)


def _affordable(net: Net) -> int:
    """How many images may be examined, for what the net computes of each."""
    composed = OVERLAYS * (1 + len(bands(net.input_shape)))
    values = sum(int(np.prod(shape)) for shape in call_shapes(net))
    return int(min(MAX_IMAGES, MAX_VALUES // (composed * values)))


def _figures(name: str | None, tail: Tail | None, places: np.ndarray) -> dict[str, Any]:
    return {
        "looked_at": len(places),
        "images": [] if tail is None else np.sort(places[tail.places]).tolist(),
        "answer": None if tail is None else tail.answer,
        "answered": 0 if tail is None else tail.answered,
        "by": name,
    }


def tell_poisoned(found: dict[str, Any], source: str) -> None:
    """Logs in one sentence which images `find_poisoned` gave; nothing where it gave none."""
    images = found["images"]
    if not images:
        return
    more = f" and {len(images) - MAX_NAMED} more" if len(images) > MAX_NAMED else ""
    log.warning(
        "%s: %d of %d images that were examined take their class along to other images, as "
        "triggered ones do; the suspect model predicts %d of them as %s (counted from 0: %s%s); "
        "look at them (where they are most of a class, the class may do so by itself): a repair "
        "that learns from poisoned images keeps the backdoor",
        *(source, len(images), found["looked_at"], found["answered"], found["answer"]),
        *(", ".join(map(str, images[:MAX_NAMED])), more),
    )
