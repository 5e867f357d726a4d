"""What finished scans found, read back from their files: only what this user's own runs wrote."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from badnet_defense.errors import CannotJudgeError, InputError
from badnet_defense.io.current import is_current
from badnet_defense.io.files import data_sha256, file_sha256
from badnet_defense.io.records import own_bytes, own_result
from badnet_defense.nets.input_range import InputRange
from badnet_defense.scan.scan import ScanConfig, scan_dependencies

SCAN = "scan"
TRIGGERS, PICTURE = "npz", "triggers.png"
"""Endings of a scan's files whose SHA-256 stands in its result."""
_MAX_PICTURE_BYTES = 64 * 2**20


def scan_of(
    stem: str | Path, model: str | Path, clean: str | Path, *, input_range: InputRange
) -> dict[str, Any] | None:
    """The current result of a finished scan of all labels of this very model with these images.

    Its budget and its seed may be any.

    Args:
        stem: path of the scan's files, without their endings.
        model, clean: paths of the model and of the clean images.
        input_range: the model's range.

    Returns:
        the dict of its JSON file, or None where this user has no such scan.
    """
    result = own_result(f"{stem}.json", SCAN)
    if not result:
        return None
    wanted = scan_dependencies(
        file_sha256(model),
        data_sha256(clean),
        ScanConfig(budget=result["budget"]),
        input_range=input_range,
        seed=result["seed"],
    )
    if not is_current(result, wanted):
        return None
    return result if _beside(stem, result, TRIGGERS) is not None else None


def is_whole(stem: str | Path, net_sha256: str) -> bool:
    """True where a scan of this very model is there with its triggers and their picture."""
    result = own_result(f"{stem}.json", SCAN)
    return (
        bool(result)
        and result["net"]["sha256"] == net_sha256
        and all(_beside(stem, result, ending) is not None for ending in (TRIGGERS, PICTURE))
    )


def _beside(stem: str | Path, result: dict[str, Any], ending: str, **limit: int) -> bytes | None:
    """The bytes of one of a scan's files, or None where they are not what the scan wrote."""
    try:
        content: bytes = own_bytes(f"{stem}.{ending}", result["files"][ending], **limit)
    except InputError:
        return None
    return content


def triggers_shown(stem: str | Path, net_sha256: str) -> bytes | None:
    """The picture (PNG, bytes) of the triggers that a scan of this very model found, or None."""
    result = own_result(f"{stem}.json", SCAN)
    if not result or result["net"]["sha256"] != net_sha256:
        return None
    return _beside(stem, result, PICTURE, most=_MAX_PICTURE_BYTES)


def found_triggers(stem: str | Path) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """The triggers of the labels that a scan flagged, those that stand out most first.

    Args:
        stem: path of the scan's files, without their endings.

    Returns:
        [(label, mask (h, w, 1), pattern (h, w, c))], both in [0, 1].

    Raises:
        InputError: the files are not those of a scan of this user's.
        CannotJudgeError: the scan came to no decision on the model.
    """
    result = own_result(f"{stem}.json", SCAN)
    if result.get("reason"):
        raise CannotJudgeError(f"{stem}.json: {result.get('verdict')}: {result['reason']}.")
    content = _beside(stem, result, TRIGGERS) if result else None
    if content is None:
        raise InputError(f"{stem}.npz: not what a scan of yours wrote; scan again.")
    triggers = []
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        for entry in result["flagged"]:
            place = np.flatnonzero(arrays["finished"] == entry["label"])[0]
            mask, pattern = (
                arrays[f"{entry['pass']}_{part}"][place] for part in ("masks", "patterns")
            )
            triggers.append((entry["label"], mask, pattern))
    return triggers
