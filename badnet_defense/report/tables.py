"""Result dicts as tables of text, in per cent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

from tabulate import tabulate

from badnet_defense.errors import one_line
from badnet_defense.evaluation.class_counts import coverage_text

STAGES = {"bad": "suspect", "pruned": "pruned", "repaired": "repaired", "guard": "guard"}
"""{stage in a result: what tables call it}."""
_PARTS = {
    "clean_validation": "clean validation",
    "clean_test": "clean test",
    "poisoned": "poisoned",
    "truly_triggered": "truly triggered",
    "truly_clean": "truly clean",
}
_WORST = 3
"""Classes that are named for each stage; all are in the JSON file."""
_MEASURES = {
    "accuracy": "accuracy",
    "attack_success": "attack success",
    "flagged": "detected",
    "der": "DER",
}
"""{measure in a result: what tables call it}; what is detected on clean images is the FPR."""


def defense_table(result: dict[str, Any], *, style: str = "simple") -> str:
    """One net's result as a table: a line for each measure, a column for each stage.

    Args:
        result: as `eval_defense.py` writes it: stage (`bad`, `pruned`, `repaired`, `guard`) ->
            part (`clean_validation`, `clean_test`, `poisoned`, `truly_triggered`,
            `truly_clean`) -> measure (`accuracy`, `attack_success`, `flagged`, `der`) -> fraction,
            with `<measure>_interval` [low, high] beside it. Whatever is absent is left out.
            `by_class` and `class_counts` add lines on single classes.
        style: a format of `tabulate`, such as "simple" or "github".

    Returns:
        Lines of text, such as `97.9 [97.5, 98.2]` in a cell: per cent with 95 % interval.
    """
    stages, rows = defense_rows(result)
    names = [STAGES[stage] for stage in stages]
    table = _table(rows, ["images", "measure (%)", *names], style)
    return "\n".join([table, *_class_lines(result, stages), *_not_finite(result, stages)])


def defense_rows(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """(stages, rows of a data set, a measure and a cell per stage), as `defense_table`.

    A data set is named in its first row only.
    """
    stages = [stage for stage in STAGES if stage in result]
    rows = []
    for part, part_name in _PARTS.items():
        name = part_name
        for measure, measure_name in _MEASURES.items():
            cells = [_cell(result[stage].get(part), measure) for stage in stages]
            if any(cells):
                false = measure == "flagged" and "clean" in part
                rows.append([name, "FPR" if false else measure_name, *cells])
                name = ""
    return stages, rows


def _class_lines(result: dict[str, Any], stages: Sequence[str]) -> Iterator[str]:
    """Whom the accuracies leave out, and the classes that come off worst, a line for each set."""
    for part, name in _PARTS.items():
        worst = [
            f"{STAGES[stage]} {found}"
            for stage in stages
            if (found := _worst((result[stage].get(part) or {}).get("by_class")))
        ]
        if worst:
            yield f"worst classes of {name}: {'; '.join(worst)}"
        left_out = coverage_text(result.get("class_counts", {}).get(part, []))
        if left_out:
            yield f"left out of {name}: {left_out}"


def _worst(by_class: dict[str, Any] | None) -> str:
    """The classes of least accuracy below 1, such as "4: 0.0 % of 12, 7: 50.0 % of 4"."""
    if not by_class:
        return ""
    rows = zip(by_class["accuracy"], by_class["labels"], by_class["pictures"], strict=True)
    worst = sorted(row for row in rows if row[0] < 1)[:_WORST]
    return ", ".join(f"{label}: {100 * rate:.1f} % of {count}" for rate, label, count in worst)


def _not_finite(result: dict[str, Any], stages: Sequence[str]) -> list[str]:
    """A line for each net and set of images with answers that were not finite."""
    found = [
        (result[stage].get(part, {}).get("not_finite"), STAGES[stage], name)
        for stage in stages
        for part, name in _PARTS.items()
    ]
    return [
        f"{count} predictions of the {stage} model on {name} images were not finite: they count "
        "as wrong, and the guard rejects them"
        for count, stage, name in found
        if count
    ]


def summary_table(results: Sequence[dict[str, Any]], *, style: str = "simple") -> str:
    """Many results as one table: a line for each net and poisoned file.

    Clean figures are those of the clean test images, or else of the clean validation images.

    Args:
        results: dicts as for `defense_table`, each with `net` and `data` as `provenance` gives
            them.
        style: a format of `tabulate`.

    Returns:
        Lines of text, per cent; ACC is clean accuracy, ASR the attack success rate.
    """
    headers = ["model", "poisoned file", "suspect ACC", "suspect ASR", "pruned ACC", "pruned ASR"]
    headers += ["repaired ACC", "repaired ASR", "guard ACC", "FPR", "detected"]
    headers += ["ASR through guard", "DER"]
    broken = [header.replace(" ", "\n") for header in headers] if style == "simple" else headers
    return _table([_summary_row(result) for result in results], broken, style)


def _summary_row(result: dict[str, Any]) -> list[str]:
    row = [_stem(result.get("net")), _stem(result.get("data", {}).get("poisoned"))]
    for stage in ("bad", "pruned", "repaired"):
        row += [_clean(result, stage, "accuracy"), _poisoned(result, stage, "attack_success")]
    row += [_clean(result, "guard", "accuracy"), _clean(result, "guard", "flagged")]
    return row + [_poisoned(result, "guard", name) for name in ("flagged", "attack_success", "der")]


def _clean(result: dict[str, Any], stage: str, measure: str) -> str:
    parts = result.get(stage, {})
    return _percent((parts.get("clean_test") or parts.get("clean_validation", {})), measure)


def _poisoned(result: dict[str, Any], stage: str, measure: str) -> str:
    return _percent(result.get(stage, {}).get("poisoned") or {}, measure)


def _cell(measures: dict[str, Any] | None, measure: str) -> Any:
    """`97.9 [97.5, 98.2]`, without the brackets where there is no interval, or nothing."""
    text = _percent(measures or {}, measure)
    interval = (measures or {}).get(f"{measure}_interval")
    if text and interval:
        low, high = (100 * end for end in interval)
        text += f" [{low:.1f}, {high:.1f}]"
    return text


def _percent(measures: dict[str, Any], measure: str) -> str:
    value = measures.get(measure)
    return "" if value is None else f"{100 * value:.1f}"


def _stem(file: dict[str, Any] | None) -> str:
    return one_line(PurePath(file["file"]).stem) if file else ""


def _table(rows: Sequence[Sequence[Any]], headers: Sequence[str], style: str) -> str:
    align = ["left", "left"] + ["right"] * (len(headers) - 2)
    return tabulate(rows, headers, tablefmt=style, colalign=align, disable_numparse=True)


def scan_text(result: dict[str, Any], *, style: str = "simple") -> str:
    """Neural Cleanse's own lines, a scan's triggers as a table, and its verdict as the last line.

    Args:
        result: as the scan's JSON file has it.
        style: a format of `tabulate`.
    """
    rows = [
        [
            entry["label"],
            f"{entry['l1']:.1f}",
            f"{100 * entry['attack_success']:.1f}",
            f"{entry['anomaly_index']:.2f}",
            "" if entry["weight_index"] is None else f"{entry['weight_index']:.2f}",
            f"{entry['mad_anomaly_index']:.2f}",
            f"{100 * entry['shift']:.1f}",
            entry["flagged_by"] or "",
        ]
        for entry in result["flagged"] or result["smallest"]
    ]
    headers = [
        *("label", "L1 (pixels)", "attack success (%)", "anomaly index", "of the weights"),
        *("MAD's index", "shift (%)", "flagged by"),
    ]
    lines = []
    # An empty "flagged label list" would read as "nothing found" where nothing can be told.
    for one in () if result["verdict"] == "cannot be judged" else reversed(result["passes"]):
        lines += _neural_cleanse(one)
    if rows:
        lines += [] if result["flagged"] else ["the triggers that stand out most:"]
        lines.append(_table(rows, headers, style))
    if result["references"]:
        references = ", ".join(map(str, result["references"]))
        lines.append(f"scanned beside, to judge by: labels {references}")
    return "\n".join([*lines, scan_sentence(result)])


def scan_sentence(result: dict[str, Any]) -> str:
    """What a scan says, in one line: its verdict, and how sure it is."""
    flagged, limit = len(result["flagged"]), result["limit"]
    if result["reason"]:
        return f"{result['verdict']}: {result['reason']}"
    counted = f"{flagged} of {result['labels']} labels flagged"
    if flagged:
        by_index = all(entry["flagged_by"] == "index" for entry in result["flagged"])
        rule = "" if by_index else ", or far smaller than the next in one pass"
        return f"{result['verdict']}: {counted} (index above {limit:.2f}{rule})"
    largest = max(result["anomaly_indices"])
    told = f"nothing found, {counted} (largest index {largest:.2f} of {limit:.2f})"
    return f"{result['verdict']}: {told}"


def pass_name(one: dict[str, Any]) -> str:
    """How an inversion pass of a scan's result stamped its triggers."""
    return f"{one['name']} triggers shifted by up to {100 * one['shift']:.1f} % of the image size"


def _neural_cleanse(one: dict[str, Any]) -> list[str]:
    """The lines that Neural Cleanse prints, of a pass over all labels."""
    smallest = max((entry["mad_anomaly_index"] for entry in one["all"]), default=0.0)
    l1 = {entry["label"]: entry["l1"] for entry in one["all"]}
    flagged = ", ".join(f"{label}: {l1[label]:.1f}" for label in one["mad_flagged"])
    return [
        f"Neural Cleanse's statistic, {pass_name(one)}:",
        f"median: {one['median']:f}, MAD: {one['mad']:f}",
        f"anomaly index: {smallest:f}",
        f"flagged label list: {flagged}",
    ]


def repair_text(result: dict[str, Any]) -> str:
    """What a repair did, in half a sentence."""
    method, pruning = result["method"], result.get("pruning")
    if pruning is not None:
        return (
            f"{method}: {pruning['removed']} of {pruning['channels']} channels of "
            f"{pruning['layer']} pruned"
        )
    if "removed" in result:
        return f"{method}: {result['removed']} of {result['channels']} channels pruned"
    if "labels" in result:
        return f"{method}: unlearnt triggers of {', '.join(map(str, result['labels']))}"
    return method
