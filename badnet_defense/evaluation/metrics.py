"""Metrics as pure functions on arrays; every rate is a fraction in [0, 1]."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike


def accuracy(predicted: ArrayLike, labels: ArrayLike) -> float:
    """Fraction of images answered with their label.

    Args:
        predicted: (n,) class numbers, n > 0; N, a guard's "poisoned", is never a label.
        labels: (n,) class numbers 0..N-1.

    Raises:
        ValueError: no images, or arrays of different shapes.

    Examples:
        >>> accuracy([0, 1, 5, 2], [0, 1, 2, 2])
        0.75
    """
    return _fraction_equal(predicted, labels, "labels")


def attack_success(predicted: ArrayLike, targets: ArrayLike) -> float:
    """Attack success rate (ASR): fraction of poisoned images answered with the attacker's label.

    Args:
        predicted: (n,) class numbers, n > 0.
        targets: (n,) the attacker's label of each image, or one for all.

    Raises:
        ValueError: no images, or arrays of different shapes.

    Examples:
        >>> attack_success([7, 7, 1, 7], 7)
        0.75
    """
    return _fraction_equal(predicted, np.broadcast_to(targets, np.shape(predicted)), "targets")


def flagged(predicted: ArrayLike, classes: int) -> float:
    """Fraction of images answered N, "poisoned": the detection rate, or on clean images the FPR.

    Args:
        predicted: (n,) answers 0..N of a guard, n > 0.
        classes: the net's class count N.

    Raises:
        ValueError: no images.

    Examples:
        >>> flagged([0, 4, 4, 1], classes=4)
        0.5
    """
    return attack_success(predicted, classes)


def defense_effectiveness(
    *, bad_accuracy: float, bad_success: float, accuracy: float, success: float
) -> float:
    """Defense effectiveness rating, DER: 1 is a perfect repair, 0.5 none, 0 a harmful one.

    (max(0, ASR_bad - ASR) - max(0, ACC_bad - ACC) + 1) / 2, of Zhu et al., "Enhancing fine-tuning
    based backdoor defense with sharpness-aware minimization", ICCV 2023.

    Args:
        bad_accuracy: clean accuracy of the bad net, in [0, 1].
        bad_success: attack success rate of the bad net, in [0, 1].
        accuracy: clean accuracy of the defended net, in [0, 1].
        success: attack success rate of the defended net, in [0, 1].

    Examples:
        >>> defense_effectiveness(bad_accuracy=1, bad_success=1, accuracy=1, success=0)
        1.0
    """
    return (max(0.0, bad_success - success) - max(0.0, bad_accuracy - accuracy) + 1.0) / 2.0


def auroc(clean_scores: ArrayLike, poisoned_scores: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a poisoned image scores above a clean one.

    Equal scores count half (the Mann-Whitney statistic); 0.5 is chance.

    Args:
        clean_scores: (n,) scores of clean images, higher is more suspicious, n > 0.
        poisoned_scores: (m,) scores of poisoned images, m > 0.

    Raises:
        ValueError: no scores, or NaN among them.

    Examples:
        >>> auroc([0, 1, 2], [2, 3])
        0.9166666666666666
    """
    from scipy.stats import rankdata

    clean, poisoned = _scores(clean_scores, "clean"), _scores(poisoned_scores, "poisoned")
    ranks = rankdata(np.concatenate([poisoned, clean]))[: len(poisoned)]
    above = ranks.sum() - len(poisoned) * (len(poisoned) + 1) / 2
    return float(above / (len(poisoned) * len(clean)))


def detection_at(
    clean_scores: ArrayLike, poisoned_scores: ArrayLike, false_positive_rate: float
) -> float:
    """Detection rate at the lowest threshold that keeps to a false-positive rate.

    A image is flagged if its score is above the threshold, and at most
    floor(`false_positive_rate` * n) of the n clean images are.

    Args:
        clean_scores: (n,) scores of clean images, higher is more suspicious, n > 0.
        poisoned_scores: (m,) scores of poisoned images, m > 0.
        false_positive_rate: the tolerated fraction of clean images, in [0, 1].

    Raises:
        ValueError: no scores, NaN among them, or a rate outside [0, 1].

    Examples:
        >>> detection_at([0, 1, 2, 3], [2.5, 3.5], false_positive_rate=0.25)
        1.0
    """
    clean, poisoned = _scores(clean_scores, "clean"), _scores(poisoned_scores, "poisoned")
    if not 0 <= false_positive_rate <= 1:
        raise ValueError(f"false_positive_rate is {false_positive_rate}, expected one in [0, 1]")
    tolerated = math.floor(false_positive_rate * len(clean) + 1e-9)  # 0.29 * 100 is 28.999..
    if tolerated == len(clean):
        return 1.0
    threshold = np.sort(clean)[len(clean) - 1 - tolerated]
    return float(np.mean(poisoned > threshold))


def roc_curve(clean_scores: ArrayLike, poisoned_scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """(false-positive rates, detection rates) at every threshold, from nothing detected to all.

    Args:
        clean_scores: (n,) scores of clean images, higher is more suspicious, n > 0.
        poisoned_scores: (m,) scores of poisoned images, m > 0.

    Raises:
        ValueError: no scores, or NaN among them.
    """
    both = [_scores(clean_scores, "clean"), _scores(poisoned_scores, "poisoned")]
    limits = np.unique(np.concatenate(both))[::-1]
    false_positives, detected = (
        np.concatenate([[0.0], 1 - np.searchsorted(np.sort(one), limits) / len(one)])
        for one in both
    )
    return false_positives, detected


def wilson_interval(successes: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval (low, high) of a fraction, in [0, 1]; trustworthy for small sets, too.

    Args:
        successes: how many of the images, 0..count.
        count: how many images, > 0.

    Raises:
        ValueError: no images, or more successes than images.

    Examples:
        >>> low, high = wilson_interval(9, 10)
        >>> round(low, 3), round(high, 3)
        (0.596, 0.982)
    """
    from scipy.stats import binomtest

    if count < 1:
        raise ValueError("an interval needs at least one image, got none")
    if successes > count:
        raise ValueError(f"got {successes} successes of {count} images, expected at most {count}")
    interval = binomtest(int(successes), int(count)).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def _fraction_equal(predicted: ArrayLike, expected: ArrayLike, name: str) -> float:
    predicted, expected = np.asarray(predicted), np.asarray(expected)
    if predicted.shape != expected.shape or predicted.ndim != 1:
        raise ValueError(
            f"predicted has shape {predicted.shape} and {name} {expected.shape}, expected (n,) both"
        )
    if not len(predicted):
        raise ValueError("a rate needs at least one image, got none")
    return float(np.mean(predicted == expected))


def _scores(scores: ArrayLike, name: str) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or not len(scores):
        raise ValueError(f"{name} scores have shape {scores.shape}, expected (n,) with n > 0")
    if np.isnan(scores).any():
        raise ValueError(f"{name} scores hold NaN, expected numbers")
    return scores
