"""What a guard computes, as data: the rule that stands in its file, with a format version."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from badnet_defense.detectors.registry import DETECTORS, overlays_needed, roles_of
from badnet_defense.nets.input_range import InputRange

FORMAT_VERSION = 1
"""Raised when a description's keys, or what they mean, change."""
ROLES = ("suspect", "repaired", "expert")
"""The nets that a guard may ask, in the order in which they stand in its file."""
MAX_OVERLAYS = 1000
_KEYS = {"format_version", "detector", "rule", "nets", "input_range"}


@dataclass(frozen=True)
class Member:
    """A detector that a guard asks, with its threshold.

    Attributes:
        detector: its registered name.
        threshold: an image is flagged where the score is above it.
        hosts: of a detector that composes images, the class of each overlay; None of others.
    """

    detector: str
    threshold: float
    hosts: tuple[int, ...] | None = None


@dataclass(frozen=True)
class GuardDescription:
    """What a guard computes.

    Attributes:
        detector: the name of the detector that was fitted.
        rule: its members; an image is flagged where one of them exceeds its threshold.
        input_range: of the nets; None where an old file does not say.

    Examples:
        >>> described = GuardDescription("hard", (Member("hard", 0.5),), InputRange(0, 1))
        >>> described.roles
        ('suspect', 'repaired')
        >>> parse_description(described.as_dict()) == described
        True
    """

    detector: str
    rule: tuple[Member, ...]
    input_range: InputRange | None = None

    @property
    def roles(self) -> tuple[str, ...]:
        """The nets that are asked."""
        asked = {role for member in self.rule for role in roles_of(member.detector)}
        return tuple(role for role in ROLES if role in asked)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in a guard's file."""
        range_ = self.input_range
        rule = [
            {
                "detector": member.detector,
                "threshold": member.threshold,
                "hosts": None if member.hosts is None else list(member.hosts),
            }
            for member in self.rule
        ]
        return {
            "format_version": FORMAT_VERSION,
            "detector": self.detector,
            "rule": rule,
            "nets": list(self.roles),
            "input_range": None if range_ is None else [float(range_.low), float(range_.high)],
        }


HARD = GuardDescription("hard", (Member("hard", 0.5),))
"""The disagreement guard's."""


def parse_description(plain: Any) -> GuardDescription:
    """The `GuardDescription` that a file holds, with nothing believed.

    Raises:
        ValueError: it is none, or of another format version.
    """
    if not isinstance(plain, dict) or "format_version" not in plain:
        raise ValueError("it holds no description")
    if plain["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"its format version is {str(plain['format_version'])[:20]}, expected {FORMAT_VERSION}"
        )
    if set(plain) != _KEYS or not isinstance(plain["rule"], list) or not plain["rule"]:
        raise ValueError("its description has other keys")
    name = plain["detector"]
    if not isinstance(name, str) or name not in DETECTORS:
        raise ValueError(f"its detector is {str(name)[:40]!r}, which is not registered")
    rule = tuple(map(_member, plain["rule"]))
    if len({member.detector for member in rule}) != len(rule):
        raise ValueError("two of its detectors are the same")
    description = GuardDescription(name, rule, _range(plain["input_range"]))
    if plain["nets"] != list(description.roles):
        raise ValueError("its description names other nets than its detectors ask")
    return description


def _member(plain: Any) -> Member:
    if not isinstance(plain, dict) or set(plain) != {"detector", "threshold", "hosts"}:
        raise ValueError("a detector in its description has other keys")
    name, threshold, hosts = plain["detector"], plain["threshold"], plain["hosts"]
    if not isinstance(name, str) or name not in DETECTORS or "members" in DETECTORS[name].facts:
        raise ValueError(f"it asks detector {str(name)[:40]!r}, which is not registered")
    if type(threshold) is not float or not math.isfinite(threshold):
        raise ValueError("a threshold is no number")
    if (hosts is None) == (overlays_needed(name) > 0):
        raise ValueError("its detectors and its overlays do not belong together")
    if hosts is None:
        return Member(name, threshold)
    whole = isinstance(hosts, list) and all(type(host) is int and host >= 0 for host in hosts)
    if not whole or not 0 < len(hosts) <= MAX_OVERLAYS:
        raise ValueError("the classes of its overlays are no classes")
    return Member(name, threshold, tuple(hosts))


def _range(plain: Any) -> InputRange | None:
    if plain is None:
        return None
    numbers = isinstance(plain, list) and all(type(end) is float for end in plain)
    if not numbers or len(plain) != 2 or not all(map(math.isfinite, plain)) or plain[0] >= plain[1]:
        raise ValueError("its input range is none")
    return InputRange(*plain)
