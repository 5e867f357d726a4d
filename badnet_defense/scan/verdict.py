"""What a scan says of a net, in one place: clean, suspicious, backdoored, or undecided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from badnet_defense.scan.attack_success import MIN_ATTACK_SUCCESS
from badnet_defense.scan.outliers import INDEX_GAP, far_smaller, gaps_to_next

if TYPE_CHECKING:
    from badnet_defense.scan.result import ScanResult

CLEAN, SUSPICIOUS, BACKDOORED = "clean", "suspicious", "backdoored"
UNJUDGED = "cannot be judged"

MIN_LABELS = 3
"""With fewer working triggers there is nothing that one of them could stand out from."""
MIN_WORKING = 0.5
"""Fraction of the labels that went all the way of which a trigger must work."""
NO_NUMBERS = "its answers are no numbers on the clean images, so that nothing is measured"

NEAR_LIMIT, APART = 0.85, 0.6
"""A label is suspicious whose index is above the first fraction of the limit, while the next
label's index is below the second fraction of its own."""


@dataclass(frozen=True)
class Verdict:
    """What a scan says.

    Attributes:
        verdict: `CLEAN`, `SUSPICIOUS`, `BACKDOORED` or `UNJUDGED`.
        reason: a sentence without its full stop: why it is undecided; None for the two that are
            decided.
        labels: class numbers, the one that stands out most first: the targets of a backdoored net,
            or the suspicious ones.
    """

    verdict: str
    reason: str | None = None
    labels: tuple[int, ...] = ()


def verdict_of(scan: ScanResult) -> Verdict:
    """The verdict on a scan's net."""
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


def flagged_by(scan: ScanResult) -> dict[int, str]:
    """{label: what flags it}, the one that stands out most first; never one that stopped early.

    Triggers differ, so there are several ways: the joint index of all passes, where the trigger is
    also smaller than the next one; and any inversion pass alone, where it is far smaller.
    """
    finished, joint = ~scan.stopped, scan.joint
    outliers = [place for place in joint.flagged if finished[place]]
    gaps = [gaps_to_next(scan_pass.outliers, outliers, finished) for scan_pass in scan.passes]
    flagged = {place: "index" for place in outliers if max(gap[place] for gap in gaps) >= INDEX_GAP}
    for scan_pass in scan.passes:
        for place in far_smaller(scan_pass.outliers, scan_pass.min_gap, finished):
            flagged.setdefault(place, f"{scan_pass.name} pass")
    ordered = sorted(flagged, key=lambda place: -joint.index[place])
    return {int(scan.labels[place]): flagged[place] for place in ordered}


def _suspicious(scan: ScanResult) -> Verdict | None:
    """The verdict where a label is first by far and yet not flagged, or None."""
    finished = np.flatnonzero(~scan.stopped)
    order = finished[np.argsort(-scan.joint.index[finished], kind="stable")]
    first, second = (float(scan.joint.index[place]) for place in order[:2])
    label, limit = int(scan.labels[order[0]]), scan.joint.limit
    details = (
        f"(index {first:.2f}, limit {limit:.2f}; next is label {scan.labels[order[1]]} with "
        f"{second:.2f}, {first - second:.2f} below): look at its trigger, and scan again with "
        "the full budget or more images"
    )
    if first > limit:
        reason = f"label {label} stands out, though its trigger is hardly smaller than the next"
    elif first > NEAR_LIMIT * limit and second < APART * first:
        reason = f"label {label} is first by far, just below the limit"
    else:
        return None
    return Verdict(SUSPICIOUS, f"{reason} {details}", (label,))


def _undecided(scan: ScanResult) -> str | None:
    """Why a scan cannot judge its net; None where it can."""
    if not np.isfinite([scan_pass.norms for scan_pass in scan.passes]).all():
        return NO_NUMBERS
    first = scan.passes[0]
    count, area = len(scan.labels), int(np.prod(first.masks.shape[1:3]))
    place = int(np.argmin(first.norms))
    smallest = (
        f"the smallest trigger has {first.norms[place]:.1f} of {area} pixels "
        f"(label {scan.labels[place]})"
    )
    if count < MIN_LABELS:
        return (
            f"a label stands out only among {MIN_LABELS} or more, and the net has {count}; "
            f"{smallest}: look at the triggers, and compare with nets of the same task that you "
            "trust"
        )
    working = max(
        int(np.sum(scan_pass.attack_success >= MIN_ATTACK_SUCCESS)) for scan_pass in scan.passes
    )
    if working < max(MIN_LABELS, MIN_WORKING * len(scan.finished)):
        return (
            f"inconclusive: only {working} of {len(scan.finished)} labels have a trigger that "
            "works (vanishing gradients, or answers that are not finite?); give more and other "
            "clean images, or check the input range"
        )
    return None
