"""The repairs by name: one file a method, each behind one interface.

A repair is a function `method(net, data, *, config=Config(), targets=None, seed=0)` that gives a
new `Net` and a report of plain numbers. Every setting is in its frozen config, made once by the
caller and passed whole. `badnet_defense.repairs.repair` checks the inputs and calls it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from badnet_defense.registry import Registry

if TYPE_CHECKING:
    import numpy as np

    from badnet_defense.io.dataset import Dataset
    from badnet_defense.nets.net import Net

DEFAULT = "fine-pruning"
"""The repair where none is named."""


class Repair(Protocol):
    """What a registered repair is.

    A method with the fact `uses_triggers` takes `triggers` too: [(label, mask, pattern)] of a
    finished scan, or None to scan the net itself.
    """

    def __call__(
        self,
        net: Net,
        data: Dataset,
        *,
        config: Any = ...,
        targets: np.ndarray | None = None,
        seed: int = 0,
    ) -> tuple[Net, dict[str, Any]]:
        """The repaired net, with the range of `net`, and a report of plain numbers.

        Args:
            net: the suspect model; unchanged.
            data: clean images with labels 0..N-1.
            config: the method's settings.
            targets: (n, N) soft labels to tune on; None: the labels of `data`.
            seed: random seed.
        """


REPAIRS: Registry[Repair] = Registry(
    "repair",
    "badnet_defense.repairs",
    tuple(
        f"badnet_defense.repairs.{module}"
        for module in (
            "fine_pruning",
            "fine_tuning",
            "magnitude_pruning",
            "random_pruning",
            "ft_sam",
            "anp",
            "i_bau",
            "scan_unlearning",
            "scan_pruning",
        )
    ),
)
"""All repairs. A fact of a method, where it has one:

- `uses_triggers`: it works on the triggers that a scan found, so that cross-fitting cannot make it
  again on a part of the images.
- `keeps_untouched`: it looks at no image of `validation_split(..).untouched`, so that these may set
  a threshold; without it all images count as seen.
- `changes_before_tuning`: it changes the net before any tuning, so that 0 epochs make sense.
"""


def uses_triggers(method: str | None) -> bool:
    """True where a repair works on the triggers of a scan; False for an unknown one."""
    if method is None or method not in REPAIRS:
        return False
    return bool(REPAIRS[method].facts.get("uses_triggers"))
