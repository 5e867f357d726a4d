"""What a scan says of a net, in one place: clean, suspicious, backdoored, or undecided."""

from dataclasses import dataclass

import numpy as np

from badnet_defense.scan.attack_success import WORKS
from badnet_defense.scan.outliers import GAP, INDEX_GAP, SMOOTH_GAP, far_smaller, smaller_by

CLEAN, SUSPICIOUS, BACKDOORED = "clean", "suspicious", "backdoored"
UNJUDGED = "cannot be judged"

STATISTIC = 2
"""Version of what is made of triggers; raised when verdicts on the same triggers may change."""
LEAST_LABELS = 3
"""With fewer working triggers there is nothing that one of them could stand out from."""
ENOUGH = 0.5
"""Of the labels that went all the way, how many must have a trigger that works."""
NO_NUMBERS = "its answers are no numbers on the clean images, so that nothing is measured"


NEARLY, APART = 0.85, 0.6
"""A label is suspicious whose index is above the first share of the limit, while the next label's
index is below the second share of its own."""


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
    outliers = list(flagged_by(scan))
    asked = set(scan.asked.tolist())
    flagged = tuple(label for label in outliers if label in asked)
    if flagged:
        return Verdict(BACKDOORED, None, flagged)
    if outliers:
        reason = (
            f"none of the labels that were asked for stands out, but label {outliers[0]}, which "
            "was scanned as a reference, does; scan all labels"
        )
        return Verdict(SUSPICIOUS, reason, tuple(outliers))
    return _suspicious(scan) or Verdict(CLEAN)


def flagged_by(scan):
    """{label: what flags it}, the surest first; labels that stopped early are none of them.

    Three ways, since triggers differ: the index of both passes and the weights, where the trigger
    is also smaller than the next one; and either pass alone, where it is far smaller.
    """
    going, joint = ~scan.stopped, scan.joint
    outliers = [one for one in joint.flagged if going[one]]
    gaps = [smaller_by(look, outliers, going) for look in (scan.near.outliers, scan.outliers)]
    found = {one: "index" for one in outliers if max(gap[one] for gap in gaps) >= INDEX_GAP}
    passes = ("sharp", scan.near.outliers, GAP), ("smooth", scan.outliers, SMOOTH_GAP)
    for name, look, gap in passes:
        for place in far_smaller(look, gap, going):
            found.setdefault(place, f"{name} pass")
    surest = sorted(found, key=lambda place: -joint.index[place])
    return {int(scan.labels[place]): found[place] for place in surest}


def _suspicious(scan):
    """The `Verdict` where a label is first by far and yet not flagged, or None."""
    going = np.flatnonzero(~scan.stopped)
    order = going[np.argsort(-scan.joint.index[going], kind="stable")]
    first, second = (float(scan.joint.index[one]) for one in order[:2])
    label, limit = int(scan.labels[order[0]]), scan.joint.limit
    told = (
        f"(index {first:.2f}, limit {limit:.2f}; next is label {scan.labels[order[1]]} with "
        f"{second:.2f}, {first - second:.2f} below): look at its trigger, and scan again with "
        "--budget full or more images"
    )
    if first > limit:
        reason = f"label {label} stands out, though its trigger is hardly smaller than the next"
    elif first > NEARLY * limit and second < APART * first:
        reason = f"label {label} is first by far, just below the limit"
    else:
        return None
    return Verdict(SUSPICIOUS, f"{reason} {told}", (label,))


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
