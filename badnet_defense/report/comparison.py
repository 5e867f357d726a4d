"""Runs of the grid as a leaderboard: rows, text, CSV and verdicts."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from itertools import groupby
from os import PathLike
from typing import Any

from tabulate import tabulate

from badnet_defense.errors import one_line
from badnet_defense.io.files import atomic_write

COLUMNS = {
    "net": "net",
    "repair": "repair",
    "detector": "detector",
    "seeds": "seeds",
    "bad_accuracy": "suspect ACC",
    "repaired_accuracy": "repaired ACC",
    "guard_accuracy": "guard ACC",
    "false_positive_rate": "FPR",
    "bad_success": "suspect ASR",
    "repaired_success": "repaired ASR",
    "guard_success": "guard ASR",
    "flagged": "detected",
    "repaired_der": "repaired DER",
    "guard_der": "guard DER",
    "repair_seconds": "repair (s)",
    "pictures_per_second": "images/s",
}
"""Of a row; accuracies and FPR are fractions of clean images, the others of images with
the trigger that is worst by that very figure; with several seeds, means."""
CLEAN = ("bad_accuracy", "repaired_accuracy", "guard_accuracy", "false_positive_rate")
ATTACK = ("bad_success", "repaired_success", "guard_success", "flagged")
RATINGS = ("repaired_der", "guard_der")
MOST = ("bad_success", "guard_success")
"""Of these a row has the worst seed's figure, `<key>_most`, too."""
FOOLED = 0.5
"""Attack success from which a net is called backdoored."""
_BLANKS, _FORMULA = ("\t", "\r", "\n"), ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What makes a spreadsheet take a cell for a formula; the last four are the wide forms."""
SPEED = ("repair_seconds", "pictures_per_second")


def leaderboard(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each net, repair and detector, the best guard of each net first.

    Args:
        runs: results of the grid.

    Returns:
        dicts with the keys of `COLUMNS`; a share has `<key>_interval` beside it: of one seed the
        95 % interval, of several the lowest and the highest end; keys of `MOST` have
        `<key>_most`, the worst seed's.
    """

    def group(run: dict[str, Any]) -> tuple[str, str, str]:
        return run["name"], run["repair"], run["detector"]

    rows = [_row(list(same)) for _, same in groupby(sorted(runs, key=group), key=group)]
    return sorted(
        rows, key=lambda row: (row["net"], -(row["guard_der"] or 0), row["false_positive_rate"])
    )


def _row(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    first = runs[0]
    row = dict.fromkeys(COLUMNS)
    row |= {
        "net": first["name"],
        "repair": first["repair"],
        "detector": first["detector"],
        "seeds": len(runs),
    }
    for name in CLEAN:
        _fill(row, name, [run["clean"] for run in runs])
    for name in (*ATTACK, *RATINGS):
        _fill(row, name, [worst_trigger(run, name) for run in runs if run["triggers"]])
    for name in MOST:
        found = [worst_trigger(run, name).get(name) for run in runs]
        row[f"{name}_most"] = max((one for one in found if one is not None), default=None)
    for name in SPEED:
        row[name] = _mean([run[name] for run in runs])
    return row


def worst_trigger(run: dict[str, Any], name: str) -> dict[str, Any]:
    """Figures of the trigger that is worst for the defence by the figure `name`."""
    found = [one for one in run["triggers"].values() if name in one]
    sign = 1 if name.endswith("_success") else -1
    return max(found, key=lambda one: sign * one[name], default={})


def _fill(row: dict[str, Any], name: str, figures: Any) -> None:
    figures = [one for one in figures if name in one]
    row[name] = _mean([one[name] for one in figures])
    ends = [one[f"{name}_interval"] for one in figures if f"{name}_interval" in one]
    row[f"{name}_interval"] = [min(e[0] for e in ends), max(e[1] for e in ends)] if ends else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def leaderboard_text(rows: Sequence[dict[str, Any]], *, style: str = "simple") -> str:
    """The rows as a table, shares in per cent."""
    headers = [name.replace(" ", "\n") if style == "simple" else name for name in COLUMNS.values()]
    lines = [[shown(row, key) for key in COLUMNS] for row in rows]
    align = ["left"] * 3 + ["right"] * (len(COLUMNS) - 3)
    return tabulate(lines, headers, tablefmt=style, colalign=align, disable_numparse=True)


def shown(row: dict[str, Any], key: str) -> str:
    """A cell as text."""
    value = row[key]
    if value is None:
        return ""
    if key in (*CLEAN, *ATTACK):
        return f"{100 * value:.1f}"
    if key in RATINGS:
        return f"{value:.3f}"
    return f"{value:,.0f}" if key in SPEED else one_line(value)


def write_csv(path: str | PathLike[str], rows: Sequence[dict[str, Any]]) -> None:
    """The rows with all digits and intervals; complete or not at all."""
    names = list(rows[0]) if rows else list(COLUMNS)
    with (
        atomic_write(path) as partial,
        open(partial, "w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        # All texts in quotes: else one that holds another country's comma is two cells there.
        writer = csv.DictWriter(file, names, quoting=csv.QUOTE_NONNUMERIC)
        csv.writer(file).writerow(names)
        for row in rows:
            writer.writerow({key: _cell(value) for key, value in row.items()})


def _cell(value: Any) -> Any:
    """What a cell holds: a list as one text, and no text that a spreadsheet would compute.

    It looks past blanks and line breaks for what begins a formula; numbers of ours may be negative.
    """
    parts = value if isinstance(value, list | tuple) else [value]
    text = " ".join(map(str, parts))
    if all(one is None or isinstance(one, int | float) for one in parts):
        return text if isinstance(value, list | tuple) else value
    formula = text[:1] in _BLANKS or text.lstrip()[:1] in _FORMULA
    return f"'{text}" if text and formula else text


def verdicts(rows: Sequence[dict[str, Any]], repair: str, detector: str) -> dict[str, str]:
    """{net: one sentence}: what the suspect model does, and what the defence leaves of it.

    Args:
        rows: of the leaderboard.
        repair, detector: the recommended pair; where a net has no such row, its first stands in.
    """
    found = {}
    for net in dict.fromkeys(row["net"] for row in rows):
        own = [row for row in rows if row["net"] == net]
        wanted = [row for row in own if (row["repair"], row["detector"]) == (repair, detector)]
        found[net] = _sentence((wanted or own)[0])
    return found


def _sentence(row: dict[str, Any]) -> str:
    how = row["detector"] if row["repair"] == "none" else f"{row['repair']} with {row['detector']}"
    cost = (
        f"{shown(row, 'guard_accuracy')} % of clean images are answered correctly "
        f"({shown(row, 'bad_accuracy')} % before) and "
        f"{shown(row, 'false_positive_rate')} % rejected"
    )
    if row["bad_success"] is None:
        return f"No poisoned images to measure the attack with; behind {how}, {cost}."
    if row["bad_success"] < FOOLED:
        return (
            f"No poisoned set fools it on more than {100 * row['bad_success_most']:.1f} %; behind "
            f"{how}, {cost}."
        )
    return (
        f"Backdoored: a trigger fools the net on {shown(row, 'bad_success')} % of the poisoned "
        f"images; behind {how} at most {100 * row['guard_success_most']:.1f} % get through; "
        f"{cost}."
    )
