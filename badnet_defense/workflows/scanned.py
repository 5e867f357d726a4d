"""What finished scans found, read back from their files: only what this user's own runs wrote."""

import io

import numpy as np

from badnet_defense.errors import CannotJudgeError, InputError
from badnet_defense.io.files import data_sha256, file_sha256
from badnet_defense.io.records import own_bytes, own_result
from badnet_defense.scan.verdict import STATISTIC

SCAN = "scan"
TRIGGERS, PICTURE = "npz", "triggers.png"
"""Endings of a scan's files whose SHA-256 stands in its result."""
_LARGEST_PICTURE = 64 * 2**20


def scan_of(stem, model, clean, *, input_range):
    """The result of a finished scan of all labels of just this net with just these pictures.

    Args:
        stem: path of the scan's files, without their endings.
        model, clean: paths of the net and of the clean pictures.
        input_range: the net's range.

    Returns:
        the dict of its JSON file, or None where no such scan of this user's is there.
    """
    result = own_result(f"{stem}.json", SCAN)
    if not result or result["labels"] != result["classes"] or result["statistic"] != STATISTIC:
        return None
    came = (result["net"]["sha256"], result["data"]["clean"]["sha256"], result["input_range"])
    if came != (file_sha256(model), data_sha256(clean), str(input_range)):
        return None
    return result if _beside(stem, result, TRIGGERS) is not None else None


def is_whole(stem, net_sha256):
    """True where a scan of this very net is there with its triggers and their picture."""
    result = own_result(f"{stem}.json", SCAN)
    return (
        bool(result)
        and result["net"]["sha256"] == net_sha256
        and all(_beside(stem, result, ending) is not None for ending in (TRIGGERS, PICTURE))
    )


def _beside(stem, result, ending, **limit):
    """The bytes of one of a scan's files, or None where they are not what the scan wrote."""
    try:
        return own_bytes(f"{stem}.{ending}", result["files"][ending], **limit)
    except InputError:
        return None


def triggers_shown(stem, net_sha256):
    """The picture (PNG, bytes) of the triggers that a scan of this very net found, or None."""
    result = own_result(f"{stem}.json", SCAN)
    if not result or result["net"]["sha256"] != net_sha256:
        return None
    return _beside(stem, result, PICTURE, most=_LARGEST_PICTURE)


def found_triggers(stem):
    """The triggers of the labels that a scan flagged, those that stand out most first.

    Args:
        stem: path of the scan's files, without their endings.

    Returns:
        [(label, mask (h, w, 1), pattern (h, w, c))], both in [0, 1].

    Raises:
        InputError: the files are not those of a scan of this user's.
        CannotJudgeError: the scan came to no decision on the net.
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
