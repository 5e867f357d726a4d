"""Whether a stored result is what today's code would give: one rule for scan, compare and audit.

A result keeps what it depends on (`dependencies`): hashes of what was read, the settings, the
versions of the methods and of the parts of the package that computed it, and the versions of the
numerical libraries. It is current while today's are the same (`is_current`). Where the code changes
what it computes, the version of the method or of the part is raised in the same commit; a comment,
a name or a message changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from badnet_defense.io.records import versions
from badnet_defense.registry import Method

CODE_VERSIONS = {
    "answers": 1,
    "inversion": 1,
    "statistic": 2,
    "repair": 1,
    "calibration": 1,
    "evaluation": 1,
}
"""The version of what each part of the package computes; a method has its own (`Method.version`).

- answers: how files are read and a net predicts;
- inversion: the steps of a scan's rungs, and the attack success rate of triggers;
- statistic: outliers among triggers, and the verdict;
- repair: what repairs share, such as splits, augmentation and the training loop;
- calibration: how thresholds are set;
- evaluation: metrics, and which images are measured.
"""
_LIBRARIES = ("tensorflow", "keras", "numpy")
DEPENDS_ON = "depends_on"
"""The key of a result under which its dependencies stand."""


def dependencies(
    *,
    inputs: Mapping[str, Any],
    settings: Mapping[str, Any],
    parts: Iterable[str],
    methods: Iterable[tuple[str, Method[Any]]] = (),
) -> dict[str, Any]:
    """What a result depends on, as plain values.

    Args:
        inputs: {what: its SHA-256}, of everything that is read.
        settings: everything that is chosen, such as seed, input range and configs.
        parts: keys of `CODE_VERSIONS`: the parts of the package that compute it.
        methods: (kind, registered method) of those that compute it.

    Examples:
        >>> found = dependencies(inputs={"net": "ab"}, settings={"seed": 0}, parts=["answers"])
        >>> found["inputs"], found["settings"], found["versions"]
        ({'net': 'ab'}, {'seed': 0}, {'answers': 1})
    """
    installed = versions()
    computed_by = {part: CODE_VERSIONS[part] for part in parts}
    computed_by |= {f"{kind} {method.name}": method.version for kind, method in methods}
    values = {
        "inputs": dict(inputs),
        "settings": dict(settings),
        "versions": computed_by,
        "libraries": {name: installed[name] for name in _LIBRARIES},
    }
    plain: dict[str, Any] = json.loads(json.dumps(values))  # as it will be read back
    return plain


def is_current(result: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """True where a stored result depends on just what is wanted.

    Args:
        result: as it was read; empty where there is none.
        wanted: `dependencies` of the same result today.

    Examples:
        >>> today = dependencies(inputs={"net": "ab"}, settings={"seed": 0}, parts=["answers"])
        >>> other = dependencies(inputs={"net": "ab"}, settings={"seed": 1}, parts=["answers"])
        >>> result = {"verdict": "clean", "depends_on": today}
        >>> is_current(result, today), is_current(result, other), is_current({}, today)
        (True, False, False)
    """
    return result.get(DEPENDS_ON) == wanted
