"""What a scan found: each pass's triggers and norms, and the verdict that they give together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from badnet_defense.scan.outliers import Outliers
from badnet_defense.scan.verdict import BACKDOORED, Verdict, flagged_by, verdict_of


class Trigger(NamedTuple):
    """An inverted trigger.

    Attributes:
        mask: (h, w, 1) `float32` in [0, 1].
        pattern: (h, w, c) `float32` in [0, 1].
        attack_success: fraction of the clean images of other classes that it sends to its label.
    """

    mask: np.ndarray
    pattern: np.ndarray
    attack_success: float


@dataclass(frozen=True)
class PassResult:
    """What one inversion pass found. L labels were scanned, F of them all the way.

    Attributes:
        name: the pass's name.
        shift, blur: how triggers were stamped (`schedule.Rung`).
        min_gap: of the pass's config.
        norms: (L,) L1 norms of the masks in pixels; a lower bound for labels that stopped early,
            the whole image where no trigger was found.
        masks: (F, h, w, 1) `float32` in [0, 1].
        patterns: (F, h, w, c) `float32` in [0, 1].
        attack_success: (F,) fraction of the clean images of other classes that the trigger sends to
            its label.
        outliers: by the default statistic, positions in the scan's `labels`.
        mad: by Neural Cleanse's own.
    """

    name: str
    shift: float
    blur: float
    min_gap: float
    norms: np.ndarray = field(repr=False)
    masks: np.ndarray = field(repr=False)
    patterns: np.ndarray = field(repr=False)
    attack_success: np.ndarray = field(repr=False)
    outliers: Outliers = field(repr=False)
    mad: Outliers = field(repr=False)


@dataclass(frozen=True)
class ScanResult:
    """What a scan found. L labels were scanned, F of them all the way.

    Attributes:
        asked: (A,) class numbers that were asked for, of `labels`; the others were scanned to
            compare them with.
        labels: (L,) class numbers.
        stopped: (L,) True for labels that stopped early, since their triggers were large.
        finished: (F,) class numbers of the others.
        passes: the inversion passes, in the order in which they ran.
        weights: {name of a weights pass: (L,) anomaly indices}, of those that had any.
        joint: outliers by the indices of all passes together.
    """

    asked: np.ndarray
    labels: np.ndarray
    stopped: np.ndarray
    finished: np.ndarray
    passes: tuple[PassResult, ...]
    weights: dict[str, np.ndarray]
    joint: Outliers

    def verdict(self) -> Verdict:
        """The verdict on the net."""
        return verdict_of(self)

    def flagged(self) -> list[int]:
        """Labels that are targets, the one that stands out most first; none where undecided."""
        verdict = self.verdict()
        return list(verdict.labels) if verdict.verdict == BACKDOORED else []

    def flagged_by(self, label: int) -> str | None:
        """What flags a label: "index", "sharp pass", ..; None for one that is not flagged."""
        return flagged_by(self)[label] if label in self.flagged() else None

    def top_labels(self, count: int) -> list[int]:
        """The `count` labels that stand out most among those that went all the way."""
        order = np.argsort(-self.joint.index, kind="stable")
        return [int(self.labels[place]) for place in order if not self.stopped[place]][:count]

    def place(self, label: int) -> int:
        """The position of a label in `labels`."""
        (place,) = np.flatnonzero(self.labels == label)
        return int(place)

    def clearest(self, label: int) -> PassResult:
        """The inversion pass in which a label stands out most."""
        place = self.place(label)
        return max(self.passes, key=lambda scan_pass: scan_pass.outliers.index[place])

    def trigger(self, label: int) -> Trigger:
        """The trigger of a label that went all the way, from the pass where it stands out most."""
        clearest = self.clearest(label)
        (place,) = np.flatnonzero(self.finished == label)
        return Trigger(
            clearest.masks[place], clearest.patterns[place], float(clearest.attack_success[place])
        )
