"""Finding a net's target labels: inverted triggers and which of them are suspiciously small.

`badnet_defense.scan(net, data)` calls `badnet_defense.scan.scan.scan`: the package is callable,
since the function and the folder share a name.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from badnet_defense.scan.registry import SCAN_PASSES

if TYPE_CHECKING:
    from badnet_defense.scan.result import ScanResult

__all__ = ["SCAN_PASSES"]


class _CallablePackage(ModuleType):
    """This package, which is called like the function."""

    def __call__(self, *args: Any, **settings: Any) -> ScanResult:
        """See `badnet_defense.scan.scan.scan`."""
        from badnet_defense.scan.scan import scan

        return scan(*args, **settings)


sys.modules[__name__].__class__ = _CallablePackage
