"""The registry of scan passes: what a scan looks at, each pass in one place.

There are two kinds of pass, told by the fact `kind` that each is registered with.

`kind="inversion"`: a way to invert triggers. The registered function has the signature
`(budget: str, config) -> tuple[Rung, ...]`: the rungs that the pass appends to the scan, whose
`shift` and `blur` say how its triggers are stamped. The passes run one after the other, each from
the triggers of the one before; the triggers after a pass's last rung are measured and give each
label an anomaly index. Only the first pass may drop labels on the way. Its config has `min_gap`:
how much smaller, in log-odds, than the next label's a trigger must be for the pass alone to flag
its label.

`kind="weights"`: a score read from the net's weights, without images. The registered function has
the signature `(net: Net, config) -> np.ndarray | None`: a score (N,) for each class, large for a
suspicious one, or None where the net has nothing to read. It is a pure function.

The indices of all inversion passes are summed; with each weights pass their sum is taken, too, and
the largest of these decides (`scan.outliers.joint_outliers`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from badnet_defense.registry import Method, Registry

INVERSION, WEIGHTS = "inversion", "weights"

SCAN_PASSES: Registry[Callable[..., Any]] = Registry(
    "scan pass",
    "badnet_defense.scan_passes",
    ("badnet_defense.scan.inversion_passes", "badnet_defense.scan.weight_signature"),
)


def passes_of(kind: str) -> list[Method[Callable[..., Any]]]:
    """The registered passes of a kind, in the order in which they run.

    Examples:
        >>> [one.name for one in passes_of(INVERSION)], [one.name for one in passes_of(WEIGHTS)]
        (['sharp', 'smooth'], ['weights'])
    """
    return [method for method in SCAN_PASSES if method.facts["kind"] == kind]
