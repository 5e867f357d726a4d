"""Self-contained HTML pages from the package's templates."""

from __future__ import annotations

import base64
from os import PathLike
from typing import Any

from badnet_defense.io.files import atomic_write


def write_template(path: str | PathLike[str], name: str, **values: Any) -> None:
    """Writes the page that a template gives, whole or not at all.

    Args:
        path: the `.html` file.
        name: of the template in `templates/`.
        values: what it shows; texts are escaped.

    Raises:
        InputError: nothing can be written at `path`.
    """
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("badnet_defense.report")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    text = environment.get_template(name).render(**values)
    with atomic_write(path) as partial:
        # A file's name may hold bytes that are no text.
        partial.write_text(text, "utf-8", errors="backslashreplace")


def encoded(data: bytes | None) -> str | None:
    """Bytes as text for a `data:` address; None stays None."""
    return None if data is None else base64.b64encode(data).decode()


def sort_key(value: Any) -> Any:
    """What a cell of a sortable table is sorted by; None comes last."""
    return "" if value is None else value
