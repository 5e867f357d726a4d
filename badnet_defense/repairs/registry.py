"""The repairs by name, behind one interface.

Each takes a net (`Net`) and clean `Dataset` with labels, and the keyword arguments
`targets` ((n, classes) soft labels, or None for the hard ones), `input_range` and `seed`, beside
settings of its own; each gives a new `Net` and a report of plain numbers.
"""

from dataclasses import asdict, is_dataclass
from inspect import signature

from badnet_defense.errors import CannotJudgeError, InputError
from badnet_defense.nets.input_range import UNIT
from badnet_defense.repairs.anp import anp
from badnet_defense.repairs.fine_pruning import fine_prune
from badnet_defense.repairs.fine_tuning import tune_alone
from badnet_defense.repairs.ft_sam import ft_sam
from badnet_defense.repairs.i_bau import i_bau
from badnet_defense.repairs.magnitude_pruning import prune_magnitudes
from badnet_defense.repairs.random_pruning import prune_randomly
from badnet_defense.repairs.unlearning import UNLEARN, unlearn
from badnet_defense.scan.scan import MAX_IMAGES, scan_images

DEFAULT = "fine-pruning"
SCANNING = "scan-unlearning"
SHARED = ("targets", "input_range", "seed")
MOST_UNLEARNT = 8
"""Triggers that a repair takes on; more flagged labels speak of a bad scan."""


def unlearn_scanned(
    spec, images, *, targets=None, triggers=None, recipe=UNLEARN, input_range=UNIT, seed=0
):
    """Scans the net for triggers and unlearns those that were found.

    Args:
        triggers: [(label, mask, pattern)] of a scan that was made before; default: it is made now.

    Raises:
        InputError: no label was flagged.
        CannotJudgeError: the scan says nothing about the net.
    """
    if triggers is None:
        pictures = images.sample(MAX_IMAGES, seed).images
        found = scan_images(spec.with_range(input_range), pictures, seed=seed)
        verdict = found.verdict()
        if verdict.reason:
            raise CannotJudgeError(f"{spec.name}: {verdict.verdict}: {verdict.reason}.")
        triggers = [(label, *found.trigger(label)[:2]) for label in found.flagged()]
    triggers = triggers[:MOST_UNLEARNT]
    if not triggers:
        raise InputError(
            f"{spec.name}: the scan flagged no label, so there is nothing to unlearn; take another "
            "method, such as fine-pruning."
        )
    repaired, tuning = unlearn(
        spec,
        images,
        triggers,
        targets=targets,
        recipe=recipe,
        input_range=input_range,
        seed=seed,
    )
    labels = [int(label) for label, *_ in triggers]
    return repaired, {"labels": labels, "tuning": tuning.as_dict()}


METHODS = {
    DEFAULT: fine_prune,
    "fine-tuning": tune_alone,
    "magnitude-pruning": prune_magnitudes,
    "random-pruning": prune_randomly,
    "ft-sam": ft_sam,
    "anp": anp,
    "i-bau": i_bau,
    SCANNING: unlearn_scanned,
}


def own_recipe(method):
    """The `Recipe` that a method tunes with if not asked otherwise, or None where it has none."""
    taken = signature(METHODS[method]).parameters.get("recipe")
    return None if taken is None else taken.default


def settings_of(method, given=()):
    """{setting: plain value} of a method, as given and else its own; without a scan's triggers."""
    return {
        name: asdict(value) if is_dataclass(value) else getattr(value, "__name__", value)
        for name, value in {**_taken(method), **dict(given)}.items()
        if name != "triggers"
    }


def _taken(method):
    """{name: default} of the settings that are a method's own."""
    return {
        name: parameter.default
        for name, parameter in signature(METHODS[method]).parameters.items()
        if parameter.kind == parameter.KEYWORD_ONLY and name not in SHARED
    }


def check_settings(method, settings):
    """Refuses settings (by name) that a method does not take."""
    taken = _taken(method)
    for name in settings:
        if name not in taken:
            raise InputError(
                f"{name} came for the method {method}, which does not take it; "
                f"it takes {', '.join(taken)}."
            )
