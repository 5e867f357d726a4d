"""A check of one model as sentences, the verdict first, and as one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from badnet_defense.errors import one_line
from badnet_defense.report.pages import encoded, write_template
from badnet_defense.report.promises import detector_notes
from badnet_defense.report.tables import defense_rows

STAGE_NAMES = {
    "bad": "suspect model",
    "pruned": "pruned",
    "repaired": "repaired",
    "guard": "guard",
}
MAX_ATTACK_SUCCESS = 0.2
"""A repaired model with a higher attack success rate keeps its backdoor, in plain words."""
SET_NAMES = {
    "clean validation": "clean, for repair and threshold",
    "clean test": "clean, held out",
}
TITLES = {
    "triggers": "Inverted triggers",
    "norms": "Trigger size per label",
    "pruning": "Accuracy while channels are pruned",
    "roc": "Detection over the false-positive rate",
    "scores": "Anomaly scores",
}
"""{picture of a check: its title}, in the page's order."""


def check_sentences(result: Mapping[str, Any]) -> list[str]:
    """[the verdict on a model, then what its repair and its guard do], a sentence each.

    Args:
        result: of `benchmarking.check.check`.
    """
    return [f"{one_line(result['scan']['name'])} {_finding(result)}", *_defence(result)]


def _finding(result: Mapping[str, Any]) -> str:
    """What was found, as the rest of a sentence."""
    verdict, scan = result["verdict"], result["scan"]
    if verdict == "backdoored" and result["shown_by"] == "scan":
        targets = scan["targets"]
        names = ", ".join(map(str, targets))
        labels = (
            f"label {names} is a target" if len(targets) == 1 else f"labels {names} are targets"
        )
        return f"is backdoored: {labels} ({_index(scan)})."
    if verdict == "backdoored":
        success = result["evaluation"]["bad"]["poisoned"]
        return (
            f"is backdoored: {_percent(success, 'attack_success')} of the poisoned images get the "
            f"attacker's class, though the scan finds no target ({_index(scan)})."
        )
    if verdict == "clean":
        return f"shows no backdoor: no label stands out ({_index(scan)}); this is no proof."
    return f"{'is suspicious' if verdict == 'suspicious' else verdict}: {result['reason']}."


def _index(scan: Mapping[str, Any]) -> str:
    limit = scan.get("limit")
    if limit is None:
        return "too few labels for an index"
    return f"index {scan['largest_index']:.2f}, limit {limit:.2f}"


def _defence(result: Mapping[str, Any]) -> list[str]:
    """[what repair and guard do], in a sentence each; empty where none were made."""
    if "failed" in result:
        return [f"It could not be repaired: {one_line(result['failed']).rstrip('.')}."]
    stages = result.get("evaluation")
    if not stages:
        return []
    part = "clean_test" if "clean_test" in stages["bad"] else "clean_validation"
    poisoned = stages["repaired"].get("poisoned", {})
    told = []
    if "accuracy" in stages["repaired"][part]:
        told.append(
            f"answers {_percent(stages['repaired'][part], 'accuracy')} of clean images right "
            f"({_percent(stages['bad'][part], 'accuracy')} before)"
        )
    if "attack_success" in poisoned:
        told.append(
            f"{_percent(poisoned, 'attack_success')} of poisoned ones with the attacker's class "
            f"({_percent(stages['bad']['poisoned'], 'attack_success')} before)"
        )
    guard = [f"{_percent(stages['guard'][part], 'flagged')} of clean images"]
    if "flagged" in stages["guard"].get("poisoned", {}):
        guard.append(f"{_percent(stages['guard']['poisoned'], 'flagged')} of poisoned ones")
    method = result["repair"]["method"]
    sentences = [f"Repaired by {method}, it {' and '.join(told)}."] if told else []
    if poisoned.get("attack_success", 0) > MAX_ATTACK_SUCCESS:
        sentences.append("The backdoor is still there: try another repair, such as ft-sam.")
    return [*sentences, f"Its guard flags {' and '.join(guard)}."]


def _percent(figures: Mapping[str, Any], name: str) -> str:
    return f"{100 * figures[name]:.1f} %"


def check_limits(result: Mapping[str, Any]) -> list[str]:
    """[sentence] on what a check does not say."""
    limits = [
        "The scan looks for a small trigger per label. A trigger that is large, spread over the "
        "image or not of one piece need not stand out, so that a clean verdict is no proof; about "
        "one clean model in twenty is flagged.",
        "Poisoned images measure the triggers they carry; an unknown trigger cannot be measured.",
    ]
    parts = result.get("parts")
    if parts is None:
        return limits
    if parts["held_out"]:
        limits.append(
            f"Clean figures are of {parts['held_out']:,} images ({parts['fraction']:.0%} of each "
            f"class, seed {result['seed']}) that were held out: the repair and the guard's "
            f"threshold come from the other {parts['repair']:,}."
        )
    else:
        limits.append(
            f"The {parts['repair']:,} clean images are too few to hold some out: the same images "
            "repair the model, set the guard's threshold and measure both."
        )
    if not parts["labelled"]:
        limits.append(
            "The clean images have no labels of the model's classes: its predicted probabilities "
            "were used instead, and accuracy was not measured."
        )
    limits.append(
        "The false-positive rate holds for images like the clean ones; other cameras, crops or "
        "classes may be flagged more often."
    )
    detector = (result.get("evaluation") or {}).get("detector")
    notes = detector_notes(detector) if detector else []
    return limits + [f"{note[0].upper()}{note[1:]}." for note in notes]


def write_check_page(
    path: str | Path,
    result: Mapping[str, Any],
    *,
    command: str,
    steps: Sequence[str],
    pictures: Mapping[str, bytes | None],
) -> None:
    """Writes the page: verdict, triggers, curves, figures, limits, commands and hashes.

    Args:
        path: the `.html` file.
        result: of `benchmarking.check.check`.
        command: what was called.
        steps: the commands that do the same, one by one.
        pictures: {key of `TITLES`: bytes of a PNG or None}.

    Raises:
        InputError: nothing can be written at `path`.
    """
    evaluation = result.get("evaluation")
    stages, rows = defense_rows(evaluation) if evaluation else ([], [])
    sentence, *defence = check_sentences(result)
    write_template(
        path,
        "check.html.j2",
        title=result["scan"]["name"],
        kind={"cannot be judged": "unjudged"}.get(result["verdict"], result["verdict"]),
        verdict=result["verdict"],
        sentence=sentence,
        defence=defence,
        flagged=result["scan"].get("flagged", ()),
        stages=[STAGE_NAMES[stage] for stage in stages],
        rows=[[SET_NAMES.get(name, name), *map(_split, cells)] for name, *cells in rows],
        limits=check_limits(result),
        plots=[(title, encoded(pictures.get(key))) for key, title in TITLES.items()],
        steps=steps,
        command=command,
        net=result.get("net"),
        data=_data(result),
        files=result["files"],
        versions=result.get("versions", {}),
    )


def _split(cell: str) -> tuple[str, str]:
    """(value, interval) of a cell such as `97.9 [97.5, 98.2]`."""
    value, _, interval = cell.partition(" [")
    return (value, f"[{interval}") if interval else (cell, "")


def _data(result: Mapping[str, Any]) -> dict[str, Any]:
    """{what: {"file", "sha256"}} of all data that were read."""
    found = {"clean images": result["scan"].get("data", {}).get("clean")}
    for name, one in (result.get("evaluation") or {}).get("data", {}).items():
        found[name.replace("_", " ")] = one
    return {name: one for name, one in found.items() if one}
