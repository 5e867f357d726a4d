"""Tuning on most of the clean pictures; the others choose the epoch."""

from badnet_defense.data.splits import split_within_classes
from badnet_defense.repair.fine_tuning import fine_tune

HELD_OUT = 0.15
"""Share of each class of the clean pictures that only chooses the epoch; at least one of each."""


def tune_held_out(spec, images, *, targets=None, seed=0, **settings):
    """Tunes a net on all but `HELD_OUT` of the pictures, and keeps the epoch best on those.

    Args:
        spec: the net (`NetSpec`); unchanged.
        images: clean `LabelledImages`, with labels.
        targets: (n, classes) soft labels; default: the hard ones.
        seed: of the split and of the tuning.
        settings: `recipe`, `frozen`, `objective`, `after_step` and `input_range` as `fine_tune`
            takes them.

    Returns:
        (`NetSpec` of the tuned net, `Tuning`).
    """
    tuning, held_out = split_within_classes(images.labels, HELD_OUT, seed=seed)
    return fine_tune(
        spec,
        images.subset(tuning),
        images.subset(held_out),
        targets=None if targets is None else targets[tuning],
        seed=seed,
        **settings,
    )
