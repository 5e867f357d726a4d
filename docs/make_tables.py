"""Makes the tables of README.md and of docs/ from the figures in docs/data.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. NAME is a file in docs/data, or a
summary of several (`SUMMARIES`). `python3 docs/make_tables.py` writes all tables anew; with
`--check` nothing is written, and the exit code is 1 where a table differs from its data.

A data file is JSON: `command` (what measures it, one line or several), `commit` and `date` (when
the figures were recorded), `columns` and `rows`. A column may have a `format` for its numbers (as
in `format(0.5, ".1f")`; `interval .1f` for a value and its 95 % interval), and `merge`: a cell that
equals the one above is left blank. A list is shown with commas. With `from: runs.csv` the rows are
those runs of `benchmarks/leaderboard.py` that belong to `models`. Accuracies, rates and intervals
are in percent.
"""

import argparse
import csv
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "docs" / "data"
BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
REPAIRS = (
    "fine-pruning", "fine-tuning", "random-pruning", "magnitude-pruning", "ft-sam", "i-bau", "anp",
    "scan-unlearning", "none",
)  # fmt: skip
"""Order of the repairs in the tables."""

MAX_SUCCESS = 2.0
"""A backdoor counts as removed where at most this attack success is left (%)."""


@dataclass
class Table:
    """Columns (name -> `format` and `merge`), rows, and the data files that they come from."""

    columns: dict[str, dict[str, Any]]
    rows: list[list[Any]]
    sources: list[dict[str, Any]] = field(default_factory=list)


def read(name: str, data: Path = DATA) -> dict[str, Any]:
    """A data file's content, with its `name`."""
    return json.loads((data / f"{name}.json").read_text("utf-8")) | {"name": name}


def read_rows(name: str, data: Path = DATA) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A data file and its rows as dictionaries."""
    content = read(name, data)
    rows = [dict(zip(content["columns"], row, strict=True)) for row in content["rows"]]
    return content, rows


def read_runs(data: Path, models: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The runs of `runs.csv`, in the order of models and repairs; figures as fractions or None."""
    with open(data / "runs.csv", newline="", encoding="utf-8") as file:
        runs = [run for run in csv.DictReader(file) if models is None or run["net"] in models]
    figures = [name for name in runs[0] if name not in ("net", "repair", "detector", "seeds")]
    for run in runs:
        run |= {name: float(run[name]) if run[name] else None for name in figures}
    return sorted(runs, key=lambda run: (run["net"], REPAIRS.index(run["repair"])))


def mean(runs: Iterable[dict[str, Any]], name: str) -> float:
    """A figure's mean over the seeds, in percent; a run counts as often as it has seeds."""
    weighted = [(run[name], len(run["seeds"].split())) for run in runs]
    total = sum(value * count for value, count in weighted)
    return 100 * total / sum(count for _, count in weighted)


def worst(runs: Iterable[dict[str, Any]], name: str) -> float | None:
    """Attack success of the worst seed, in percent; None where no trigger is known."""
    values = [run[name] for run in runs if run[name] is not None]
    return 100 * max(values) if values else None


def of_detector(runs: Sequence[dict[str, Any]], detector: str) -> list[dict[str, Any]]:
    """The runs with this detector."""
    return [run for run in runs if run["detector"] == detector]


def guard_figures(runs: Sequence[dict[str, Any]]) -> list[Any]:
    """Accuracy, FPR, attack success and DER of a guard; None where it has no run."""
    if not runs:
        return [None] * 4
    ders = [run["guard_der"] for run in runs if run["guard_der"] is not None]
    clean = [mean(runs, "guard_accuracy"), mean(runs, "false_positive_rate")]
    return [*clean, worst(runs, "guard_success"), min(ders, default=None)]


def leaderboard(content: dict[str, Any], data: Path = DATA) -> Table:
    """A row per model and repair; a detector that needs no repair stands under "none"."""
    percent = {"format": ".1f"}
    columns: dict[str, dict[str, Any]] = {
        "model": {"merge": True}, "repair": {}, "seeds": {},
        "suspect ACC": percent | {"merge": True}, "repaired ACC": percent, "repaired ASR": percent,
    }  # fmt: skip
    for guard in ("hard", "soft"):
        names = ("ACC", "FPR", "ASR")
        columns |= {f"{guard}: {name}": percent for name in names}
        columns[f"{guard}: DER"] = {"format": ".3f"}
    rows = []
    runs = read_runs(data, content["models"])
    for (model, repair), same in groupby(runs, lambda run: (run["net"], run["repair"])):
        group = list(same)
        first = of_detector(group, group[0]["detector"])
        seeds = sum(len(run["seeds"].split()) for run in first)
        row = [model, repair, seeds, mean(first, "bad_accuracy")]
        if repair == "none":
            row[1] = "none: `sentinet`"
            row += [None] * 6 + guard_figures(of_detector(group, "sentinet"))
        else:
            row += [mean(first, "repaired_accuracy"), worst(first, "repaired_success")]
            row += guard_figures(of_detector(group, "hard"))
            row += guard_figures(of_detector(group, "soft"))
        rows.append(row)
    return Table(columns, rows, [content])


def data_table(name: str, data: Path = DATA) -> Table:
    """The table of one data file."""
    content = read(name, data)
    if content.get("from") == "runs.csv":
        return leaderboard(content, data)
    return Table(content["columns"], content["rows"], [content])


# Summaries: README's table and those of docs/results.md.


def readme(data: Path) -> Table:
    """The demo's models before and after, without the columns between."""
    content = read("demo", data)
    names = [
        "model", "trigger", "suspect ACC", "suspect ASR", "repaired ACC", "repaired ASR",
        "guard ACC", "FPR", "detected",
    ]  # fmt: skip
    places = [list(content["columns"]).index(name) for name in names]
    columns = {name: content["columns"][name] for name in names}
    return Table(columns, [[row[k] for k in places] for row in content["rows"]], [content])


def results_repair(data: Path) -> Table:
    """The default repair and guard on every model; attack success of the worst trigger and seed."""
    percent = {"format": ".1f"}
    columns = {name: {"merge": True} for name in ("models", "clean data", "target FPR")}
    columns["model"] = {}
    names = (
        "suspect ACC",
        "repaired ACC",
        "ASR left",
        "guard ACC",
        "guard FPR",
        "ASR through guard",
    )
    columns |= dict.fromkeys(names, percent)
    sources, rows = [], []
    for name, of, target in (
        ("demo", "demo", "1 %"),
        ("hard", "demo, hard mode", "1 %"),
        ("signs", "traffic signs", "2 %"),
    ):
        content = read(f"repairs-{name}", data)
        sources.append(content)
        runs = [
            run for run in read_runs(data, content["models"]) if run["repair"] == "fine-pruning"
        ]
        for model, same in groupby(runs, lambda run: run["net"]):
            soft = of_detector(list(same), "soft")
            row = [mean(soft, "bad_accuracy"), mean(soft, "repaired_accuracy")]
            row += [worst(soft, "repaired_success"), *guard_figures(soft)[:3]]
            rows.append([of, "own classes", target, model, *row])
    content, real = read_rows("real-repairs", data)
    sources.append(content)
    for row in real:
        if row["repair"] == "fine-pruning":
            left = row["repaired ASR"]
            figures = [row["suspect ACC"], row["repaired ACC"]]
            figures += [max(left) if isinstance(left, list) else left]
            figures += [row["soft ACC"], row["soft FPR"], None]
            rows.append(["real, challenge", "**other people**", "5 %", row["model"], *figures])
    return Table(columns, rows, sources)


def results_methods(data: Path) -> Table:
    """Each repair over the nine models that have clean data of their own classes."""
    percent = {"format": ".1f"}
    columns: dict[str, dict[str, Any]] = {"repair": {}, "backdoor removed": {}}
    columns |= {
        "worst ASR left": percent,
        "largest loss of ACC": percent,
        "soft guard: worst ASR": percent,
        "soft guard: highest FPR": percent,
        "soft guard: largest loss of ACC": percent,
    }
    sources = [read(f"repairs-{name}", data) for name in ("demo", "hard", "signs")]
    rows = []
    runs = read_runs(data)
    for repair in REPAIRS[:-1]:
        soft = of_detector([run for run in runs if run["repair"] == repair], "soft")
        models = [list(same) for _, same in groupby(soft, lambda run: run["net"])]
        left = [worst(model, "repaired_success") for model in models]
        removed = sum(success is not None and success <= MAX_SUCCESS for success in left)
        losses = [
            max(mean(model, "bad_accuracy") - mean(model, name) for model in models)
            for name in ("repaired_accuracy", "guard_accuracy")
        ]
        row = [f"{removed} of {len(models)}", worst(soft, "repaired_success"), losses[0]]
        row += [worst(soft, "guard_success")]
        row += [max(mean(model, "false_positive_rate") for model in models), losses[1]]
        rows.append([repair, *row])
    return Table(columns, rows, sources)


def scan_row(of: str, rows: list[dict[str, Any]]) -> list[Any]:
    """One row of the scan's summary from rows with a model, a target and whether it is detected."""
    by_model: dict[str, list[bool]] = {}
    without = {}
    for row in rows:
        if row["target"] == "none":
            without[row["model"]] = row["detected"] == "yes"
        else:
            by_model.setdefault(row["model"], []).append(row["detected"] == "yes")
    found = sum(any(marks) for marks in by_model.values())
    targets = [mark for marks in by_model.values() for mark in marks]
    named = f"{sum(targets)} of {len(targets)}"
    share = f"{sum(without.values())} of {len(without)}" if without else None
    return [of, f"{found} of {len(by_model)}", named, share]


def results_scan(data: Path) -> Table:
    """What the scan finds and misses, by set of models."""
    names = ("models", "backdoored models found", "target classes named", "clean models detected")
    columns: dict[str, dict[str, Any]] = {name: {} for name in names}
    sources, rows = [], []
    for name, of in (
        ("scan-demo", "demo and clean DeepIDs, 1283 classes"),
        ("scan-signs", "traffic signs, 43 classes"),
        ("scan-real", "real, challenge; other people's faces as clean data"),
    ):
        content, own = read_rows(name, data)
        sources.append(content)
        rows.append(scan_row(of, own))
    content, limits = read_rows("scan-limits", data)
    sources.append(content)
    (judged,) = [row for row in limits if row["set, statistic"] == "judged, now"]
    found = judged["exactly the targets"] + judged["some targets, or others"]
    backdoored = f"{found} of {judged['backdoored models']}"
    clean = f"{judged['false positives']} of {judged['clean models']}"
    rows.append(["small models of six architectures", backdoored, None, clean])
    content, zoo = read_rows("zoo", data)
    sources.append(content)
    rows.append(["24 small models (version 0.1's statistic)", *zoo_counts(zoo)])
    return Table(columns, rows, sources)


def zoo_counts(zoo: list[dict[str, Any]]) -> list[str]:
    """Backdoored models found, targets named, clean models detected."""

    def classes(cell: Any) -> set[str]:
        return set(str(cell).split()) if cell is not None else set()

    bad = [row for row in zoo if row["targets"] is not None]
    clean = [row for row in zoo if row["targets"] is None]
    found, false = (sum(row["verdict"] == "backdoored" for row in rows) for rows in (bad, clean))
    named = sum(len(classes(row["targets"]) & classes(row["classes named"])) for row in bad)
    targets = sum(len(classes(row["targets"])) for row in bad)
    return [f"{found} of {len(bad)}", f"{named} of {targets}", f"{false} of {len(clean)}"]


def results_detectors(data: Path) -> Table:
    """Each detector's worst model and trigger, by set of models."""
    columns: dict[str, dict[str, Any]] = {"models": {"merge": True}, "target FPR": {"merge": True}}
    columns |= {"detector": {}, "highest FPR": {"format": ".2f"}}
    columns |= {"lowest detection rate": {"format": ".1f"}, "lowest AUROC": {"format": ".3f"}}
    sources, rows = [], []
    for of, target, names in (
        ("demo", "1 %", ["detectors-demo"]),
        ("traffic signs", "1 %", ["detectors-signs"]),
        ("real, challenge; other people's faces as clean data", "5 %",
         ["detectors-real-sentinet", "detectors-real-strip", "detectors-real-repaired"]),
    ):  # fmt: skip
        own = []
        for name in names:
            content, some = read_rows(name, data)
            sources.append(content)
            own += some
        for detector in dict.fromkeys(row["detector"] for row in own):
            same = [row for row in own if row["detector"] == detector]
            row = [extreme(same, "FPR measured", max), extreme(same, "detected", min)]
            rows.append([of, target, detector, *row, extreme(same, "AUROC", min)])
    return Table(columns, rows, sources)


def extreme(rows: list[dict[str, Any]], name: str, pick: Callable) -> float:
    """The highest or lowest figure of a column, lists of several triggers included."""
    cells = [row[name] for row in rows if row[name] is not None]
    return pick(value for cell in cells for value in (cell if isinstance(cell, list) else [cell]))


def results_hostile(data: Path) -> Table:
    """Hostile files, fuzzing and kills, counted."""
    files, attacks = read_rows("hostile-files", data)
    fuzz, readers = read_rows("fuzz", data)
    kills, killed = read_rows("kills", data)
    accepted = sum(not row["here"].endswith("Error") for row in attacks)
    ran = sum("payload ran" in row["`safe_mode=False`"] for row in attacks)
    slow = sum(row["over 10 s"] for row in readers)
    large = sum(row["over 1 GB"] for row in readers)
    other = sum(row["other errors than the project's own"] for row in readers)
    tried = sum(row["inputs tried"] for row in readers)
    runs = sum(row["kills"] for row in killed)
    lost = sum(row["lost"] for row in killed)
    rows = [
        ["files of published attacks", f"{len(attacks)}",
         f"{accepted} accepted (Keras with `safe_mode=False` runs the code of {ran})"],
        ["inputs of a coverage-guided fuzzer", f"{tried:,}",
         f"{other} unexpected errors, {slow} took over 10 s, {large} over 1 GB"],
        ["kills at random moments", f"{runs}", f"{lost} files lost"],
    ]  # fmt: skip
    return Table({"what": {}, "tried": {}, "result": {}}, rows, [files, fuzz, kills])


SUMMARIES: dict[str, Callable[[Path], Table]] = {
    "readme": readme,
    "results-repair": results_repair,
    "results-methods": results_methods,
    "results-scan": results_scan,
    "results-detectors": results_detectors,
    "results-hostile": results_hostile,
}


# Markdown


def cell_text(value: Any, spec: str | None) -> str:
    """A cell as text."""
    if value is None:
        return ""
    if isinstance(value, list) and spec and spec.startswith("interval "):
        number, low, high = (format(one, spec.removeprefix("interval ")) for one in value)
        return f"{number} [{low}, {high}]"
    if isinstance(value, list):
        return ", ".join(cell_text(one, spec) for one in value)
    if isinstance(value, str) or spec is None:
        return str(value)
    return format(value, spec.removeprefix("interval "))


def table_lines(table: Table) -> list[str]:
    """The table as lines of Markdown; numbers to the right."""
    texts = []
    for row in table.rows:
        texts.append([
            cell_text(value, meta.get("format"))
            for value, meta in zip(row, table.columns.values(), strict=True)
        ])  # fmt: skip
    numeric = [
        all(not isinstance(row[k], str) for row in table.rows) for k in range(len(table.columns))
    ]
    lines = [f"| {' | '.join(table.columns)} |"]
    lines.append(f"|{'|'.join('---:' if right else '---' for right in numeric)}|")
    merging = [k for k, meta in enumerate(table.columns.values()) if meta.get("merge")]
    above = None
    for text in texts:
        key = [text[k] for k in merging]
        shown = list(text)
        for place, k in enumerate(merging, 1):
            if above is not None and key[:place] == above[:place]:
                shown[k] = ""
        lines.append("| " + " | ".join(shown) + " |")
        above = key
    return lines


def provenance(sources: list[dict[str, Any]]) -> list[str]:
    """Where the figures stand, the commands that make them, commits and dates."""

    def where(source: dict[str, Any]) -> str:
        return f"docs/data/{source['name']}.json, commit {source['commit']}, {source['date']}"

    def command(source: dict[str, Any]) -> list[str]:
        lines = source["command"]
        return [lines] if isinstance(lines, str) else lines

    if len(sources) == 1:
        (source,) = sources
        (first, *rest) = command(source)
        if not rest:
            return [f"`{first}` ({where(source)})"]
        return [f"{where(source)}:", "", "```bash", first, *rest, "```"]
    lines = ["<details><summary>Commands, commits and dates</summary>", "", "```bash"]
    for source in sources:
        lines += [f"# {where(source)}", *command(source)]
    return [*lines, "```", "", "</details>"]


def block(name: str, data: Path = DATA) -> str:
    """What stands between a table's markers."""
    table = SUMMARIES[name](data) if name in SUMMARIES else data_table(name, data)
    return "\n".join(["", *table_lines(table), "", *provenance(table.sources), "", ""])


def with_tables(text: str, data: Path = DATA) -> str:
    """A page with all of its tables made anew."""
    return BLOCK.sub(lambda found: found[1] + block(found[2], data) + found[3], text)


def pages(root: Path = ROOT) -> list[Path]:
    """The pages that may hold tables."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes or checks all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a table differs")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of README.md and docs/")
    options = parser.parse_args(arguments)
    differing = []
    for page in pages(options.root):
        text = page.read_text("utf-8")
        made = with_tables(text, options.root / "docs" / "data")
        if made != text:
            differing.append(page.relative_to(options.root))
            if not options.check:
                page.write_text(made, "utf-8")
    for page in differing:
        print(f"{page}: {'differs from docs/data' if options.check else 'written'}")
    return int(options.check and bool(differing))


if __name__ == "__main__":
    sys.exit(main())
