"""Repairs: each takes a suspect model and clean images, and gives one that keeps its accuracy.

>>> from badnet_defense.repairs import REPAIRS
>>> "fine-pruning" in REPAIRS
True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from badnet_defense.repairs.base import repair
    from badnet_defense.repairs.recipes import RECIPES, Recipe
    from badnet_defense.repairs.registry import REPAIRS

__all__ = ["RECIPES", "REPAIRS", "Recipe", "repair"]
_MODULES = {"RECIPES": "recipes", "REPAIRS": "registry", "Recipe": "recipes", "repair": "base"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'badnet_defense.repairs' has no attribute {name!r}")
    return getattr(import_module(f"badnet_defense.repairs.{_MODULES[name]}"), name)
