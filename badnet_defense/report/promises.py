"""What a promised false-positive rate rests on, as sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MOST_NAMED = 10
"""Images of a tail that a sentence names."""


def tail_text(tail: dict[str, Any]) -> str:
    """One sentence on clean images whose scores stand apart, from a result's `tail`."""
    count = len(tail["images"])
    named = ", ".join(map(str, tail["images"][:MOST_NAMED]))
    more = f" and {count - MOST_NAMED} more" if count > MOST_NAMED else ""
    threshold, without = tail["threshold"], tail["threshold_without"]
    limit = (
        ""
        if without in (None, threshold)
        else f"; with them the threshold is {threshold:.4g}, without them {without:.4g}"
    )
    return (
        f"{count} clean images score apart from the rest, {tail['answered']} of them answered "
        f"{tail['answer']} by the suspect model (counted from 0: {named}{more}){limit}; look at "
        "them: poisoned images among the clean ones raise the threshold"
    )


def detector_notes(figures: dict[str, Any]) -> list[str]:
    """[half a sentence] on what a detector's rate rests on, from its `expected` and its `tail`."""
    notes = []
    if caveat := (figures.get("expected") or {}).get("caveat"):
        notes.append(f"the false-positive rate that is asked for {caveat}")
    if tail := figures.get("tail"):
        notes.append(tail_text(tail))
    return notes


def comparison_notes(runs: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """{net: [sentence]} beside a comparison's figures: targets, and what its rates rest on.

    Args:
        runs: results of the grid.
    """
    notes: dict[str, list[str]] = {}
    for run in runs:
        own = notes.setdefault(run["name"], [])
        targets = [f"{name}: {target_text(one)}" for name, one in run["triggers"].items()]
        found = [f"Targets by trigger: {', '.join(targets)}."] if targets else []
        title = f"{run['repair']} with {run['detector']}"
        if run["detector"] != "hard":  # which has neither a rate that was asked for nor a threshold
            found += [f"{title}: {one}." for one in detector_notes(run)]
        own += [one for one in found if one not in own]
    return notes


def target_text(figures: dict[str, Any]) -> str:
    """A trigger's target class, or how many it has."""
    target = figures["target"]
    return f"all-to-all ({figures['targets']} targets)" if target is None else str(target)
