"""Finished tasks of a scan on disk, so that an interrupted scan resumes where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from badnet_defense.errors import InputError
from badnet_defense.io.current import DEPENDS_ON, is_current
from badnet_defense.io.files import atomic_write, read_plain
from badnet_defense.io.sealing import SIZE, is_sealed, seal

_MAX_RECORD, _MAX_TASK = 2**20, 2**30


class Progress:
    """A folder of finished tasks, each a few arrays; those of another scan are removed.

    Each task ends with the user's seal of the scan, its name and its arrays: a file without it is
    ignored.

    Args:
        folder: where they are kept; None keeps nothing.
        depends_on: what the tasks depend on (`io.current.dependencies`), which tells one scan from
            another.

    Raises:
        InputError: the folder is there and holds something else.
    """

    def __init__(self, folder: str | Path | None, depends_on: Mapping[str, Any]) -> None:
        self.folder = None if folder is None else Path(folder)
        if self.folder is None:
            return
        text = json.dumps(depends_on, sort_keys=True)
        self._scan = hashlib.sha256(text.encode()).hexdigest()
        record = self.folder / "scan.json"
        if not record.exists() and self.folder.exists() and any(self.folder.iterdir()):
            raise InputError(
                f"{self.folder}: expected a scan's finished tasks, but it holds something else; "
                "move it away or choose another output path."
            )
        if not is_current(_read(record), json.loads(text)):
            self.forget()
            with atomic_write(record) as partial:
                partial.write_text(json.dumps({DEPENDS_ON: depends_on}), "utf-8")

    def stored(self, name: str) -> dict[str, np.ndarray] | None:
        """The task `name` as a dict of arrays, or None where it is missing or not this user's."""
        if self.folder is None:
            return None
        path = self.folder / f"{name}.npz"
        try:
            content = read_plain(path, _MAX_TASK)
        except InputError:
            content = b""
        content, sealed = content[:-SIZE], content[-SIZE:]
        if not is_sealed(self._purpose(name), content, sealed):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)  # not this user's, or damaged: made again
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)

    def keep(self, name: str, task: Mapping[str, np.ndarray]) -> None:
        """Writes the task `name`, a dict of arrays; where no key can be kept, nothing."""
        if self.folder is None:
            return
        with io.BytesIO() as buffer:
            np.savez(buffer, **dict(task))  # type: ignore[arg-type]
            content = buffer.getvalue()
        sealed = seal(self._purpose(name), content)
        if sealed is not None:
            with atomic_write(self.folder / f"{name}.npz") as partial:
                partial.write_bytes(content + sealed)

    def _purpose(self, name: str) -> str:
        return f"task {name} of scan {self._scan}"

    def forget(self) -> None:
        """Removes the tasks, and the folder unless it holds something else, too."""
        if self.folder is None or not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            if path.suffix in (".npz", ".json"):
                path.unlink()
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def _read(record: Path) -> dict[str, Any]:
    """A folder's record; empty where there is none, or a damaged one."""
    try:
        found = json.loads(read_plain(record, _MAX_RECORD))
    except (InputError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
