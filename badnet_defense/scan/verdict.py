"""What a scan says of a net, in one place: clean, suspicious, backdoored, or undecided."""

from dataclasses import dataclass

import numpy as np

from badnet_defense.scan.judging import WORKS

CLEAN, SUSPICIOUS, BACKDOORED = "clean", "suspicious", "backdoored"
UNJUDGED = "cannot be judged"

STATISTIC = 2
"""Version of what is made of triggers; raised when verdicts on the same triggers may change."""
LEAST_LABELS = 3
"""With fewer working triggers there is nothing that one of them could stand out from."""
ENOUGH = 0.5
"""Of the labels that went all the way, how many must have a trigger that works."""
NO_NUMBERS = "its answers are no numbers on the clean images, so that nothing is measured"


@dataclass(frozen=True)
class Verdict:
    """What a scan says.

    Attributes:
        verdict: `CLEAN`, `SUSPICIOUS`, `BACKDOORED` or `UNJUDGED`.
        reason: a sentence without its full stop: why it is undecided; None for the two that are
            decided.
        labels: class numbers that it speaks of, the surest first: the targets of a backdoored net,
            the suspicious ones.
    """

    verdict: str
    reason: str | None = None
    labels: tuple[int, ...] = ()


def verdict_of(scan):
    """The `Verdict` of a `Scan`."""
    reason = _undecided(scan)
    if reason:
        return Verdict(UNJUDGED, reason)
    outliers = [int(scan.labels[one]) for one in scan.joint.flagged if not scan.stopped[one]]
    asked = set(scan.asked.tolist())
    flagged = tuple(label for label in outliers if label in asked)
    if flagged:
        return Verdict(BACKDOORED, None, flagged)
    for label in outliers:
        index = scan.joint.index[np.flatnonzero(scan.labels == label)[0]]
        reason = (
            f"none of the labels that were asked for stands out, but label {label}, which was "
            f"scanned as a reference, does (index {index:.2f} of {scan.joint.limit:.2f}); scan all "
            "labels"
        )
        return Verdict(SUSPICIOUS, reason, (label,))
    return Verdict(CLEAN)


def _undecided(scan):
    """Why a scan cannot judge its net; None where it can."""
    if not np.isfinite([scan.norms, scan.near.norms]).all():
        return NO_NUMBERS
    count, area = len(scan.labels), int(np.prod(scan.masks.shape[1:3]))
    place = int(np.argmin(scan.near.norms))
    smallest = (
        f"the smallest trigger has {scan.near.norms[place]:.1f} of {area} pixels "
        f"(label {scan.labels[place]})"
    )
    if count < LEAST_LABELS:
        return (
            f"a label stands out only among {LEAST_LABELS} or more, and the net has {count}; "
            f"{smallest}: look at the triggers, and compare with nets of the same task that you "
            "trust"
        )
    looks = [int(np.sum(one.attack_success >= WORKS)) for one in (scan, scan.near)]
    if max(looks) < max(LEAST_LABELS, ENOUGH * len(scan.finished)):
        return (
            f"only {max(looks)} of {len(scan.finished)} labels have a trigger that works, so that "
            "none can stand out: the net's gradients lead nowhere, or its answers are no numbers; "
            "give more and other clean images, or check --input-range"
        )
    return None
