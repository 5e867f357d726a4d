"""Files that tasks need and make, where a worker may not see this machine's disk."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from filelock import FileLock

from badnet_defense.errors import InputError
from badnet_defense.io.files import atomic_write, data_sha256, user_temp_dir

Contents = dict[str, np.ndarray[Any, Any]]
"""{path below a folder, or "" for a file: its bytes (n,) `uint8`}."""


@dataclass(frozen=True)
class RemoteFile:
    """A file, or a folder of files, for workers anywhere.

    Attributes:
        path: where it lies on the machine that began.
        sha256: `data_sha256` of it; None where all workers see that machine's disk.
        contents: {path below a folder, or "": `uint8` (bytes,)}; None there, too.
    """

    path: str
    sha256: str | None
    contents: Contents | None

    @classmethod
    def of(cls, path: str | Path, *, apart: bool) -> Self:
        """That of a path; `apart`: workers may have other disks."""
        if not apart:
            return cls(str(path), None, None)
        path = Path(path).absolute()
        return cls(str(path), data_sha256(path), _contents(path))

    def here(self) -> Path:
        """Its path on the machine of this worker, where it is unpacked once if it is not there."""
        path = Path(self.path)
        if self.contents is None or self._is(path):
            return path
        kept = user_temp_dir() / "remote_files"
        place: Path = kept / str(self.sha256) / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        # Others of this machine may need the same contents now, under this name or another.
        with FileLock(kept / f"{self.sha256}.lock"):
            if not self._is(place):
                self._unpack(kept, place)
        return place

    def _is(self, path: Path) -> bool:
        try:
            return path.exists() and bool(data_sha256(path) == self.sha256)
        except (InputError, OSError):
            return False

    def _unpack(self, kept: Path, place: Path) -> None:
        if place.is_dir():  # not what it should be; a file is replaced
            shutil.rmtree(place)
        with tempfile.TemporaryDirectory(dir=kept) as made:
            write_files(Path(made) / place.name, self.contents or {})
            os.replace(Path(made) / place.name, place)
        if not self._is(place):
            raise InputError(f"{self.path}: it did not arrive whole; call again.")


def _contents(path: Path) -> Contents:
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    return {_below(one, path): np.fromfile(one, np.uint8) for one in files}


def _below(one: Path, path: Path) -> str:
    return "" if one == path else one.relative_to(path).as_posix()


@contextmanager
def results_below(out: str | Path | None) -> Iterator[tuple[Path, Callable[[], Contents]]]:
    """Where a worker writes: (folder, a function that gives what must be handed back from there).

    Args:
        out: the folder of the results; None where the worker does not see it. Then it writes
            elsewhere, and hands back what `write_files` takes; else nothing.
    """
    with tempfile.TemporaryDirectory() as elsewhere:
        folder = Path(out or elsewhere)
        yield folder, lambda: {} if out else made_files(folder)


def made_files(folder: str | Path) -> Contents:
    """{path below `folder`: its bytes as `uint8`} of what a worker has made."""
    return _contents(Path(folder))


def write_files(folder: str | Path, contents: Contents) -> None:
    """Writes what `made_files` gave below a folder, or one file if its only name is empty."""
    for name, content in contents.items():
        with atomic_write(Path(folder) / name if name else folder) as partial:
            content.tofile(partial)
