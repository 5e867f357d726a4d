"""The triggers by name: what the attack command can plant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from badnet_defense.attacks.base import Trigger
from badnet_defense.registry import Registry

ATTACKS: Registry[Callable[[Any, tuple[int, int, int]], Trigger]] = Registry(
    "attack",
    "badnet_defense.attacks",
    (
        "badnet_defense.attacks.patch",
        "badnet_defense.attacks.blend",
        "badnet_defense.attacks.accessory",
    ),
)
"""Each method is a function: its config and the images' shape (h, w, c) -> a `Trigger`."""
