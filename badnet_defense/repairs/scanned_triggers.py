"""The triggers that a repair works on: of a scan that is finished, or of one made now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from badnet_defense.errors import CannotJudgeError, InputError
from badnet_defense.io.dataset import Dataset
from badnet_defense.nets.net import Net

Trigger: TypeAlias = tuple[int, np.ndarray, np.ndarray]
"""(label, mask (h, w, 1), pattern (h, w, c)), both in [0, 1]."""
MAX_TRIGGERS = 8
"""At most this many triggers are used; more flagged labels mean that the scan went wrong."""


def triggers_of(
    net: Net, data: Dataset, triggers: Sequence[Trigger] | None, seed: int
) -> list[Trigger]:
    """The given triggers, or those that a scan of all labels finds; at most `MAX_TRIGGERS`.

    Args:
        net: the suspect model.
        data: clean images; their labels play no part.
        triggers: of a finished scan; None: the net is scanned now.
        seed: of the scan.

    Raises:
        InputError: no label was flagged.
        CannotJudgeError: the scan says nothing about the net.
    """
    if triggers is None:
        from badnet_defense.scan.scan import MAX_IMAGES, scan_images

        result = scan_images(net, data.sample(MAX_IMAGES, seed).images, seed=seed)
        verdict = result.verdict()
        if verdict.reason:
            raise CannotJudgeError(f"{net.name}: {verdict.verdict}: {verdict.reason}.")
        triggers = [(label, *result.trigger(label)[:2]) for label in result.flagged()]
    if not len(triggers):
        raise InputError(
            f"{net.name}: the scan flagged no label, so there is no trigger to repair; take "
            "another method, such as fine-pruning."
        )
    return list(triggers[:MAX_TRIGGERS])
