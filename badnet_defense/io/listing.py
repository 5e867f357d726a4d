"""Which files of a folder are images that are read, and which are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp")
"""Of the files that are read as images."""
FORMATS = "PNG, JPEG, BMP, PPM/PGM or WebP"
_JUNK = {"thumbs.db", "desktop.ini", "__macosx"}
"""What systems leave behind without a dot before its name."""
_MAX_NAMED = 4


def visible(folder: Path) -> list[Path]:
    """Entries of `folder` (a `Path`), sorted, without what systems and notebooks leave behind."""
    return sorted(
        entry
        for entry in folder.iterdir()
        if not entry.name.startswith(".") and entry.name.lower() not in _JUNK
    )


def image_files(folder: Path) -> list[Path]:
    """The image files directly in `folder`, sorted by name."""
    return [entry for entry in visible(folder) if is_image(entry)]


def is_image(entry: Path) -> bool:
    """True for a file with the suffix of an image that is read."""
    return entry.suffix.lower() in SUFFIXES and entry.is_file()


def read_files(folder: Path) -> list[Path]:
    """All image files of a data set's folder: directly in it and in its class folders, sorted."""
    found = image_files(folder)
    for entry in visible(folder):
        if entry.is_dir():
            found += image_files(entry)
    return sorted(found)


def left_out(entries: Iterable[Path]) -> str:
    """What is not read, in words: how much, of which kind, and where.

    Args:
        entries: `Path`s of what is left out.

    Returns:
        Text such as "40 .tif (in 3, 7), 1 .csv (in 0)"; empty where `entries` is.
    """
    kinds: Counter[str] = Counter()
    places: dict[str, dict[str, None]] = {}
    for entry in entries:
        kind = entry.suffix.lower()[:12] or "without a suffix"
        kinds[kind] += 1
        places.setdefault(kind, {})[entry.parent.name] = None  # a dict keeps their order
    told = [
        f"{count} {kind} (in {join_names(list(places[kind]))})"
        for kind, count in kinds.most_common(_MAX_NAMED)
    ]
    if len(kinds) > _MAX_NAMED:
        told.append(f"{len(kinds) - _MAX_NAMED} other kinds")
    return ", ".join(told)


def join_names(names: Sequence[Any]) -> str:
    """Some of the names, and how many others there are: "4, 17 and 230 others"."""
    more = len(names) - _MAX_NAMED
    if more > 1:
        return f"{', '.join(map(str, names[:_MAX_NAMED]))} and {more} others"
    *first, last = map(str, names)
    return f"{', '.join(first)} and {last}" if first else last
