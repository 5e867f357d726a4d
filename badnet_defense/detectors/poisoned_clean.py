"""Images among the clean ones that behave like triggered ones, told before a repair.

A repair that is tuned on triggered images labelled with the target learns the backdoor anew, and
nothing shows it afterwards: both nets agree. The suspect model alone tells them apart, since a
trigger takes its class along to other images: under overlays (STRIP) and in a pasted band
(SentiNet). A group of images that score apart from all others is told, never left out silently.
"""

import logging

import numpy as np

from badnet_defense.detectors.bands import bands
from badnet_defense.detectors.sentinet import SentiNet
from badnet_defense.detectors.strip import Strip
from badnet_defense.errors import InputError
from badnet_defense.evaluation.tails import separated_tail
from badnet_defense.nets.net import call_shapes
from badnet_defense.nets.predict import predict_labels

log = logging.getLogger(__name__)

MOST = 1000
"""Images are looked at, at most; which ones is drawn by the seed."""
LEAST = 100
"""With fewer images, nothing stands apart."""
MOST_VALUES = 3e10
"""Values that the net may compute on the way; DeepID takes half of it for `MOST` images."""
OVERLAYS = 16
CERTAIN = 1e-12
"""How improbable a group must be: some classes carry along by nature. 8 of 2,500 clean traffic
signs did (a yellow square), with a chance of 1e-9; 50 triggered ones among them had 1e-55."""
MOST_NAMED = 20
"""Images are named in the sentence, at most; the result has all."""


def find_poisoned(spec, bad, images, *, input_range, seed=0):
    """The images that the suspect model takes for triggered, if a group of them stands apart.

    Args:
        spec: the suspect model (`Net`).
        bad: the same as a `keras.Model`.
        images: clean `Dataset`; labels play no part.
        input_range: the model's range.
        seed: of the images that are looked at and of the overlays.

    Returns:
        {"looked_at": how many images were looked at, 0 where it cannot be told, "images": the
        positions of those that stand apart, "answer": the class that most of them are answered
        with, "answered": how many are, "by": "strip", "sentinet" or None}.
    """
    most = _affordable(spec)
    if min(len(images), most) < LEAST:
        why = "the net is too large" if most < LEAST else f"{len(images)} images are too few"
        log.info("%s: not searched for poisoned images, %s", images.source, why)
        return _figures(None, None, np.arange(0))
    order = np.random.default_rng((seed, 11)).permutation(len(images))
    places = np.sort(order[:most])
    pictures, overlays = images.images[places], images.images[order[-OVERLAYS:]]
    answers = predict_labels(bad, pictures, input_range=input_range)
    name, found = None, None
    for candidate, kind in (("strip", Strip), ("sentinet", SentiNet)):
        detector = kind(bad, overlays=overlays, input_range=input_range)
        try:
            tail = separated_tail(detector.anomaly_score(pictures), answers)
        except InputError as error:  # the overlays are all of one class
            log.info(
                "%s: not searched for poisoned images by %s: %s", images.source, candidate, error
            )
            continue
        if tail and tail.chance < min(CERTAIN, found.chance if found else 1):
            name, found = candidate, tail
    return _figures(name, found, places)


def _affordable(spec):
    """How many images may be looked at, for what the net computes of each."""
    asked = OVERLAYS * (1 + len(bands(spec.input_shape)))
    values = sum(int(np.prod(shape)) for shape in call_shapes(spec))
    return int(min(MOST, MOST_VALUES // (asked * values)))


def _figures(name, tail, places):
    return {
        "looked_at": len(places),
        "images": [] if tail is None else np.sort(places[tail.places]).tolist(),
        "answer": None if tail is None else tail.answer,
        "answered": 0 if tail is None else tail.answered,
        "by": name,
    }


def tell_poisoned(found, source):
    """Says in one sentence which images `find_poisoned` gave; says nothing where it gave none."""
    images = found["images"]
    if not images:
        return
    more = f" and {len(images) - MOST_NAMED} more" if len(images) > MOST_NAMED else ""
    log.warning(
        "%s: %d of %d images that were looked at take their class along to other images, as "
        "triggered ones do; the suspect model answers %d of them with %s (counted from 0: %s%s); "
        "look at them (where they are most of a class, the class may do so by itself): a repair "
        "that learns from poisoned images keeps the backdoor",
        *(source, len(images), found["looked_at"], found["answered"], found["answer"]),
        *(", ".join(map(str, images[:MOST_NAMED])), more),
    )
