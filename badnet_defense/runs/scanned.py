"""What finished scans found, read back from their files."""

import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from badnet_defense.data.files import data_sha256, file_sha256
from badnet_defense.errors import CannotJudgeError, InputError
from badnet_defense.measure.results import read_json, readable
from badnet_defense.scan.verdict import STATISTIC

_BROKEN = (OSError, KeyError, TypeError, IndexError, ValueError, EOFError, BadZipFile, zlib.error)


def scan_of(stem, model, clean, *, input_range):
    """The result of a finished scan of all labels of just this net with just these pictures.

    Args:
        stem: path of the scan's files, without their endings.
        model, clean: paths of the net and of the clean pictures.
        input_range: the net's range.

    Returns:
        the dict of its JSON file, or None where no such scan is there.
    """
    if not Path(f"{stem}.json").exists() or not Path(f"{stem}.npz").exists():
        return None
    try:
        result = read_json(f"{stem}.json")
        came = (result["net"]["sha256"], result["data"]["clean"]["sha256"], result["input_range"])
        whole = result["labels"] == result["classes"] and result["statistic"] == STATISTIC
    except (InputError, KeyError, TypeError):
        return None
    wanted = (file_sha256(model), data_sha256(clean), str(input_range))
    return result if whole and came == wanted else None


def triggers_shown(stem, net_sha256):
    """The picture (PNG, bytes) of the triggers that a scan of this very net found, or None."""
    picture, result = Path(f"{stem}.triggers.png"), readable(f"{stem}.json")
    same = (result.get("net") or {}).get("sha256") == net_sha256
    return picture.read_bytes() if same and picture.is_file() else None


def found_triggers(stem):
    """The triggers of the labels that a scan flagged, those that stand out most first.

    Args:
        stem: path of the scan's files, without their endings.

    Returns:
        [(label, mask (h, w, 1), pattern (h, w, c))], both in [0, 1].

    Raises:
        InputError: the files are no scan's.
        CannotJudgeError: the scan came to no decision on the net.
    """
    result = read_json(f"{stem}.json")
    if result.get("reason"):
        raise CannotJudgeError(f"{stem}.json: {result.get('verdict')}: {result['reason']}.")
    try:
        near = result["near"]["shift"]
        found = []
        with np.load(f"{stem}.npz") as arrays:
            for entry in result["flagged"]:
                look = "near_" if entry["shift"] == near else ""
                place = np.flatnonzero(arrays[f"{look}finished"] == entry["label"])[0]
                parts = (arrays[f"{look}{part}"][place] for part in ("masks", "patterns"))
                found.append((entry["label"], *parts))
    except _BROKEN:
        raise InputError(f"{stem}.npz: not what a scan wrote; scan again.") from None
    return found
