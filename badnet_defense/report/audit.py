"""An audit's results as rows, text, one sentence and one page."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

from tabulate import tabulate

from badnet_defense.errors import one_line
from badnet_defense.report.pages import encoded, sort_key, write_template
from badnet_defense.report.promises import detector_notes

COLUMNS = {
    "net": "net",
    "verdict": "verdict",
    "targets": "target labels",
    "largest_index": "largest index",
    "limit": "limit",
    "classes": "classes",
    "input": "input",
    "accuracy": "clean ACC",
    "repaired_accuracy": "repaired ACC",
    "seconds": "seconds",
    "reason": "reason",
}
_ORDER = ("backdoored", "suspicious", "cannot be judged", "clean")
_LONGEST = 70
MOST_SHOWN = 100
"""Nets, other than clean ones, whose triggers are on the page, which a browser must still open."""


def audit_rows(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each net: those with a backdoor, the suspicious, the undecided, the clean."""
    rows = [_row(result) for result in results]
    return sorted(rows, key=lambda row: (_ORDER.index(row["verdict"]), row["net"]))


def _row(result: dict[str, Any]) -> dict[str, Any]:
    repair = result.get("repair") or {}
    after = repair.get("repaired", {}).get("clean_validation", {}).get("accuracy")
    return {
        "net": result["name"],
        "verdict": result["verdict"],
        "targets": " ".join(map(str, result.get("targets", ()))),
        "largest_index": result.get("largest_index"),
        "limit": result.get("limit"),
        "classes": result.get("classes"),
        "input": "x".join(map(str, result.get("input_shape", ()))),
        "accuracy": result.get("accuracy"),
        "repaired_accuracy": after,
        "seconds": result["seconds"],
        "reason": result["reason"] or repair.get("failed"),
    }


def shown(row: dict[str, Any], key: str) -> str:
    """A cell as text."""
    value = row[key]
    if value is None:
        return ""
    if key in ("accuracy", "repaired_accuracy"):
        return f"{100 * value:.1f}"
    if key in ("largest_index", "limit"):
        return f"{value:.2f}"
    return f"{value:,.0f}" if key == "seconds" else one_line(value)


def audit_text(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table; reasons are cut, and stand whole in the CSV."""
    headers = [name.replace(" ", "\n") for name in COLUMNS.values()]
    lines = [[_cut(shown(row, key)) for key in COLUMNS] for row in rows]
    align = ["left", "left", "left", *["right"] * (len(COLUMNS) - 4), "left"]
    return tabulate(lines, headers, tablefmt="simple", colalign=align, disable_numparse=True)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}.."


def audit_sentence(rows: Sequence[dict[str, Any]]) -> str:
    """The audit in one sentence."""
    verdicts = [row["verdict"] for row in rows]
    found, odd, unknown, clean = (verdicts.count(verdict) for verdict in _ORDER)
    return (
        f"Of {len(rows)} nets {found} {'has' if found == 1 else 'have'} a backdoor by what the "
        f"scan found, {odd} {'is' if odd == 1 else 'are'} suspicious, {unknown} cannot be judged, "
        f"and in {clean} nothing stands out."
    )


def write_audit_page(
    path: str | PathLike[str],
    results: Sequence[dict[str, Any]],
    rows: Sequence[dict[str, Any]],
    command: str,
    scans: str,
    pictures: Any = (),
) -> None:
    """Writes the page.

    Args:
        path: the `.html` file.
        results: of the audit.
        rows: as `audit_rows` gives them.
        command: what was called, as text.
        scans: folder of the scans' files.
        pictures: {net: bytes of a PNG of its scan's triggers}.
    """
    odd = {one["name"]: one for one in results if one["verdict"] != "clean" and "flagged" in one}
    shown_nets = [row["net"] for row in rows if row["net"] in odd][:MOST_SHOWN]
    versions: dict[str, str] = next(
        (result["versions"] for result in results if "versions" in result), {}
    )
    write_template(
        path,
        "audit.html.j2",
        rows=[
            {
                "kind": {"cannot be judged": "unjudged"}.get(row["verdict"], row["verdict"]),
                "cells": [(shown(row, key), sort_key(row[key])) for key in COLUMNS],
            }
            for row in rows
        ],
        columns=COLUMNS.values(),
        sentence=audit_sentence(rows),
        nets=[_net(odd[name], dict(pictures).get(name)) for name in shown_nets],
        unshown=len(odd) - len(shown_nets),
        scans=scans,
        command=command,
        versions=versions,
    )


def _net(result: dict[str, Any], picture: Any) -> dict[str, Any]:
    targets = ", ".join(map(str, result["targets"]))
    told = f"Label{'s' if len(result['targets']) > 1 else ''} {targets} flagged as target"
    if not targets:
        told = f"{result['verdict']}: {result['reason']}".capitalize()
    repair = result.get("repair") or {}
    if "repaired" in repair:
        detector = repair["detector"]
        told += f"; repaired by {repair['method']}, guarded by {detector['name']}"
        told = "; ".join([told, *detector_notes(detector)])
    return {
        "name": result["name"],
        "sentence": f"{told}.",
        "triggers": encoded(picture),
        "file": result["net"]["file"],
        "sha256": result["net"]["sha256"],
    }
