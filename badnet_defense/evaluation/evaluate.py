"""What a defence costs on clean images and catches on poisoned ones, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from badnet_defense.evaluation import metrics
from badnet_defense.evaluation.guard_answers import guard_answers
from badnet_defense.evaluation.input_checks import settled_sets
from badnet_defense.io.dataset import Dataset
from badnet_defense.nets.answers import NO_ANSWER
from badnet_defense.nets.net import Net


def evaluate(
    suspect: Net,
    repaired: Net | None = None,
    *,
    clean: Dataset,
    poisoned: Dataset | None = None,
    guard: Guard | None = None,
) -> dict[str, Any]:
    """What a suspect model, its repair and a guard answer on clean and on poisoned images.

    Args:
        suspect: the suspect model.
        repaired: its repair.
        clean: clean images that neither the repair nor the guard's threshold has seen; with labels
            for accuracies.
        poisoned: images with a trigger, labelled with the attacker's class.
        guard: answers 0..N of images; default: the disagreement of both models, if there is a
            repair.

    Returns:
        {stage: {"clean_test" or "poisoned": {metric: fraction, metric_interval: [low, high]}}} of
        the stages "bad" (the suspect model), "repaired" and "guard".

    Raises:
        InputError: the labels, or the input range, do not fit the suspect model.

    Examples:
        >>> from badnet_defense.nets import deep_id, describe
        >>> net = describe(deep_id(classes=4))
        >>> clean = Dataset(np.zeros((5, 55, 47, 3), "uint8"))
        >>> figures = evaluate(net, net, clean=clean)
        >>> figures["guard"]["clean_test"]["flagged"]  # a model never disagrees with itself
        0.0
    """
    sets = settled_sets(
        suspect, {"clean_test": clean} | ({"poisoned": poisoned} if poisoned else {})
    )
    nets = {"bad": suspect} | ({"repaired": repaired} if repaired else {})
    answers = None
    if guard is not None:
        answers = {part: guard.predict(data.images) for part, data in sets.items()}
    return evaluate_defense(nets, sets, guard=answers)


class Guard(Protocol):
    """What answers images with their class, or N for "poisoned"."""

    def predict(self, images: np.ndarray) -> np.ndarray:
        """(n,) answers 0..N of images (n, h, w, c) with pixels 0-255."""


def evaluate_defense(
    nets: Mapping[str, Net],
    sets: Mapping[str, Dataset],
    *,
    triggered: np.ndarray | None = None,
    guard: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Every stage on every data set.

    Args:
        nets: {"bad": the suspect model, "pruned": .., "repaired": ..}; "pruned" may be absent.
        sets: {"clean_validation": data, "clean_test": .., "poisoned": ..}; whatever is absent is
            left out. The labels of "poisoned" are the attacker's.
        triggered: (n,) True for each image of "poisoned" that really carries a trigger; adds
            "truly_triggered" and "truly_clean".
        guard: {set: (n,) answers 0..N} of another guard than the disagreement of both nets; it is
            the only one where there is no repair.

    Returns:
        {stage: {set: {metric: fraction, metric_interval: [low, high]}}} for the nets and "guard";
        of labelled clean sets also `by_class`: `labels` that are there, their `accuracy` and the
        number of `pictures`, lists of one length.
        `not_finite` counts a net's answers that were not finite, where there were any: they are
        never right, and the guard flags them.
    """
    answers: dict[str, Mapping[str, np.ndarray]] = {
        name: {part: net.predict(data.images) for part, data in sets.items()}
        for name, net in nets.items()
    }
    classes = nets["bad"].classes
    if guard is not None:
        answers["guard"] = guard
    elif "repaired" in nets:
        answers["guard"] = {
            part: guard_answers(answers["bad"][part], answers["repaired"][part], classes)
            for part in sets
        }
    result: dict[str, Any] = {stage: {} for stage in answers}
    for stage, given in answers.items():
        for part, data in sets.items():
            result[stage][part] = _measures(stage, part, given[part], data.labels, classes)
        if triggered is not None and "poisoned" in sets:
            labels = sets["poisoned"].labels
            for part, rows in (("truly_triggered", triggered), ("truly_clean", ~triggered)):
                if rows.any():
                    chosen = None if labels is None or part == "truly_clean" else labels[rows]
                    result[stage][part] = _measures(
                        stage, part, given["poisoned"][rows], chosen, classes
                    )
    _rate(result)
    return result


def _measures(
    stage: str, part: str, predicted: np.ndarray, labels: np.ndarray | None, classes: int
) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    if labels is not None:
        attacked = part in ("poisoned", "truly_triggered")
        name = "attack_success" if attacked else "accuracy"
        measured[name] = getattr(metrics, name)(predicted, labels)
    if stage == "guard":
        measured["flagged"] = metrics.flagged(predicted, classes)
    measured = _with_intervals(measured, len(predicted))
    if labels is not None and "accuracy" in measured:
        measured["by_class"] = _by_class(predicted, labels)
    if broken := int(np.sum(predicted == NO_ANSWER)):
        measured["not_finite"] = broken
    return measured


def _by_class(predicted: np.ndarray, labels: np.ndarray) -> dict[str, list]:
    """The accuracy on each class that has images, as plain lists."""
    found, rows, counts = np.unique(labels, return_inverse=True, return_counts=True)
    right = np.bincount(rows, weights=predicted == labels)
    return {
        "labels": found.tolist(),
        "accuracy": (right / counts).tolist(),
        "pictures": counts.tolist(),
    }


def _with_intervals(measured: dict[str, float], count: int) -> dict[str, Any]:
    intervals = {
        f"{name}_interval": list(metrics.wilson_interval(round(fraction * count), count))
        for name, fraction in measured.items()
    }
    return {**measured, **intervals, "pictures": count}


def _rate(result: dict[str, Any]) -> None:
    """Adds the defense effectiveness rating where both clean accuracy and attack are known."""
    part = "clean_test" if "clean_test" in result["bad"] else "clean_validation"
    clean = {stage: measured.get(part, {}).get("accuracy") for stage, measured in result.items()}
    for stage, measured in result.items():
        poisoned = measured.get("poisoned", {})
        if stage != "bad" and clean[stage] is not None and "attack_success" in poisoned:
            poisoned["der"] = metrics.defense_effectiveness(
                bad_accuracy=clean["bad"],
                bad_success=result["bad"]["poisoned"]["attack_success"],
                accuracy=clean[stage],
                success=poisoned["attack_success"],
            )
