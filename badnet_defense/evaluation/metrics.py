"""Metrics as pure functions on arrays; every share is a fraction in [0, 1]."""

import math

import numpy as np


def accuracy(predicted, labels):
    """Share of pictures answered with their label.

    Args:
        predicted: (n,) class numbers, n > 0; N, a guard's "poisoned", is never a label.
        labels: (n,) class numbers 0..N-1.

    Raises:
        ValueError: no pictures, or arrays of different shapes.
    """
    return _share_equal(predicted, labels, "labels")


def attack_success(predicted, targets):
    """Share of poisoned pictures answered with the attacker's label.

    Args:
        predicted: (n,) class numbers, n > 0.
        targets: (n,) the attacker's label of each picture, or one for all.

    Raises:
        ValueError: no pictures, or arrays of different shapes.
    """
    return _share_equal(predicted, np.broadcast_to(targets, np.shape(predicted)), "targets")


def flagged(predicted, classes):
    """Share of pictures answered N, "poisoned"; on clean pictures these are false alarms.

    Args:
        predicted: (n,) answers 0..N of a guard, n > 0.
        classes: the net's class count N.

    Raises:
        ValueError: no pictures.
    """
    return attack_success(predicted, classes)


def defense_effectiveness(*, bad_accuracy, bad_success, accuracy, success):
    """Defense effectiveness rating, DER: 1 is a perfect repair, 0.5 none, 0 a harmful one.

    (max(0, ASR_bad - ASR) - max(0, ACC_bad - ACC) + 1) / 2, of Zhu et al., "Enhancing fine-tuning
    based backdoor defense with sharpness-aware minimization", ICCV 2023.

    Args:
        bad_accuracy: clean accuracy of the bad net, in [0, 1].
        bad_success: attack success rate of the bad net, in [0, 1].
        accuracy: clean accuracy of the defended net, in [0, 1].
        success: attack success rate of the defended net, in [0, 1].
    """
    return (max(0.0, bad_success - success) - max(0.0, bad_accuracy - accuracy) + 1.0) / 2.0


def auroc(clean_scores, poisoned_scores):
    """Area under the ROC curve: the chance that a poisoned picture scores above a clean one.

    Equal scores count half (the Mann-Whitney statistic); 0.5 is chance.

    Args:
        clean_scores: (n,) scores of clean pictures, higher is more suspicious, n > 0.
        poisoned_scores: (m,) scores of poisoned pictures, m > 0.

    Raises:
        ValueError: no scores, or NaN among them.
    """
    from scipy.stats import rankdata

    clean, poisoned = _scores(clean_scores, "clean"), _scores(poisoned_scores, "poisoned")
    ranks = rankdata(np.concatenate([poisoned, clean]))[: len(poisoned)]
    above = ranks.sum() - len(poisoned) * (len(poisoned) + 1) / 2
    return float(above / (len(poisoned) * len(clean)))


def detection_at(clean_scores, poisoned_scores, false_positive_rate):
    """Share of poisoned pictures above the lowest threshold that keeps to the false-alarm rate.

    A picture is flagged if its score is above the threshold, and at most
    floor(`false_positive_rate` * n) of the n clean pictures are.

    Args:
        clean_scores: (n,) scores of clean pictures, higher is more suspicious, n > 0.
        poisoned_scores: (m,) scores of poisoned pictures, m > 0.
        false_positive_rate: the tolerated share of clean pictures, in [0, 1].

    Raises:
        ValueError: no scores, NaN among them, or a rate outside [0, 1].
    """
    clean, poisoned = _scores(clean_scores, "clean"), _scores(poisoned_scores, "poisoned")
    if not 0 <= false_positive_rate <= 1:
        raise ValueError(f"false_positive_rate is {false_positive_rate}, expected one in [0, 1]")
    tolerated = math.floor(false_positive_rate * len(clean) + 1e-9)  # 0.29 * 100 is 28.999..
    if tolerated == len(clean):
        return 1.0
    threshold = np.sort(clean)[len(clean) - 1 - tolerated]
    return float(np.mean(poisoned > threshold))


def roc_curve(clean_scores, poisoned_scores):
    """(false-alarm rates, detections) at every threshold, from nothing flagged to everything.

    Args:
        clean_scores: (n,) scores of clean pictures, higher is more suspicious, n > 0.
        poisoned_scores: (m,) scores of poisoned pictures, m > 0.

    Raises:
        ValueError: no scores, or NaN among them.
    """
    both = [_scores(clean_scores, "clean"), _scores(poisoned_scores, "poisoned")]
    limits = np.unique(np.concatenate(both))[::-1]
    shares = [1 - np.searchsorted(np.sort(one), limits) / len(one) for one in both]
    return tuple(np.concatenate([[0.0], one]) for one in shares)


def wilson_interval(successes, count):
    """Wilson's 95 % interval (low, high) of a share, in [0, 1]; trustworthy for small sets too.

    Args:
        successes: how many of the pictures, 0..count.
        count: how many pictures, > 0.

    Raises:
        ValueError: no pictures, or more successes than pictures.
    """
    from scipy.stats import binomtest

    if count < 1:
        raise ValueError("an interval needs at least one picture, got none")
    if successes > count:
        raise ValueError(f"{successes} successes came for {count} pictures, expected at most those")
    interval = binomtest(int(successes), int(count)).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def _share_equal(predicted, expected, name):
    predicted, expected = np.asarray(predicted), np.asarray(expected)
    if predicted.shape != expected.shape or predicted.ndim != 1:
        raise ValueError(
            f"predicted has shape {predicted.shape} and {name} {expected.shape}, expected (n,) both"
        )
    if not len(predicted):
        raise ValueError("a share needs at least one picture, got none")
    return float(np.mean(predicted == expected))


def _scores(scores, name):
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or not len(scores):
        raise ValueError(f"{name} scores have shape {scores.shape}, expected (n,) with n > 0")
    if np.isnan(scores).any():
        raise ValueError(f"{name} scores hold NaN, expected numbers")
    return scores
