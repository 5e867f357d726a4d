"""The two passes that invert triggers: sharp patches in place, then smooth ones that may sit off.

A patch shows in the sharp pass. An accessory bears the shifts and the blur of the smooth pass,
since nets answer to it wherever it sits about right, and since it is of one piece; other labels'
patterns, adversarial noise, have to grow, so that large triggers stand out, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from badnet_defense.scan.registry import INVERSION, SCAN_PASSES
from badnet_defense.scan.schedule import BUDGETS, Rung


@dataclass(frozen=True, kw_only=True)
class SharpConfig:
    """How the sharp pass stamps triggers.

    Args:
        shift: largest shift of the stamped trigger, as a fraction of the image's sides.
        blur: how far to each side masks and patterns are smoothed, as a fraction of the sides.
        min_gap: how much smaller, in log-odds, than the next label's a trigger must be to be
            flagged by this pass alone: 0.6 is not much more than half its pixels.
    """

    shift: float = 0.06
    blur: float = 0.0
    min_gap: float = 0.6


@SCAN_PASSES.register(
    "sharp",
    summary="small patches at a fixed position",
    config=SharpConfig,
    paper="Wang et al., Neural Cleanse, IEEE S&P 2019",
    kind=INVERSION,
)
def sharp(budget: str, config: SharpConfig = SharpConfig()) -> tuple[Rung, ...]:
    """All rungs of the budget, with small shifts."""
    return tuple(replace(rung, shift=config.shift, blur=config.blur) for rung in BUDGETS[budget])


@dataclass(frozen=True, kw_only=True)
class SmoothConfig:
    """How the smooth pass stamps triggers.

    Args:
        shift, blur: as for `SharpConfig`.
        min_gap: as for `SharpConfig`; smooth triggers of clean nets differ more: one blob turns any
            digit into an 8.
    """

    shift: float = 0.125
    blur: float = 0.05
    min_gap: float = 1.3


@SCAN_PASSES.register(
    "smooth",
    summary="accessories whose position may vary",
    config=SmoothConfig,
    paper="Guo et al., TABOR, arXiv:1908.01763 (smoothed triggers); Athalye et al., ICML 2018",
    kind=INVERSION,
)
def smooth(budget: str, config: SmoothConfig = SmoothConfig()) -> tuple[Rung, ...]:
    """One rung more, as long as the budget's last, with large shifts and smoothed triggers."""
    return (replace(BUDGETS[budget][-1], shift=config.shift, blur=config.blur),)
