"""From a suspect model, its repair and clean images to a guard."""

from __future__ import annotations

from badnet_defense.detectors.hard_disagreement import HardDisagreement
from badnet_defense.detectors.registry import needs_repair
from badnet_defense.errors import InputError
from badnet_defense.evaluation.input_checks import fitting_labels
from badnet_defense.guards.disagreement import check_alike
from badnet_defense.guards.guard import Guard
from badnet_defense.io.dataset import Dataset
from badnet_defense.nets.net import Net
from badnet_defense.workflows.calibrate import fit_detector, split_clean


def build_guard(
    suspect: Net,
    repaired: Net | None = None,
    data: Dataset | None = None,
    *,
    detector: str = "soft",
    false_positive_rate: float = 0.01,
    seed: int = 0,
) -> Guard:
    """A guard: it answers as the suspect model does on clean images, and N on poisoned ones.

    Without clean images it is the disagreement guard, which answers N where the suspect model and
    its repair disagree. With clean images a detector is fitted, whose threshold keeps to a
    false-positive rate: on images that the repair was not tuned on, which its record tells.

    Args:
        suspect: the suspect model.
        repaired: its repair; None for a detector that needs none ("strip", "sentinet").
        data: clean images, labelled or not; None: the disagreement guard.
        detector: name of the detector (`badnet_defense.detectors.DETECTORS`); only with `data`.
        false_positive_rate: the fraction of clean images that may be flagged, in (0, 1).
        seed: of what the detector draws at random.

    Raises:
        InputError: the models differ in shape, a repair is missing, there are too few clean
            images, or they do not fit the model.

    Examples:
        >>> import numpy as np
        >>> from badnet_defense.nets import deep_id, describe
        >>> suspect, repaired = (describe(deep_id(classes=10)) for _ in range(2))
        >>> guard = build_guard(suspect, repaired)
        >>> guard
        Guard(HardDisagreement(false_positive_rate=0.01))
        >>> guard.predict(np.zeros((2, 55, 47, 3), "uint8")).shape  # 0..9, or 10 for poisoned
        (2,)
    """
    if repaired is not None:
        check_alike(suspect, repaired)
        if data is None:
            return Guard(HardDisagreement(suspect, repaired))
    if data is None or (repaired is None and needs_repair(detector)):
        name = "the disagreement guard" if data is None else f"detector {detector!r}"
        raise InputError(f"{name} needs a repaired model, got none; give `repaired`.")
    split = split_clean(suspect, repaired, fitting_labels(suspect, data))
    fitted = fit_detector(
        detector,
        suspect,
        repaired,
        split,
        false_positive_rate=false_positive_rate,
        seed=seed,
    )
    return Guard(fitted.detector)
