"""Finished units of a scan on disk, so that one that was killed goes on where it stopped."""

import contextlib
import hashlib
import io
import json
from pathlib import Path

import numpy as np

from badnet_defense.errors import InputError
from badnet_defense.io.files import atomic_write, read_plain
from badnet_defense.io.records import code_sha256
from badnet_defense.io.sealing import SIZE, is_sealed, seal

_LARGEST_NOTE, _LARGEST_UNIT = 2**20, 2**30


def _key(note):
    """The key in a folder's note; None where there is none, or a damaged one."""
    try:
        return json.loads(read_plain(note, _LARGEST_NOTE))["key"]
    except (InputError, ValueError, KeyError, TypeError, RecursionError):
        return None


class Progress:
    """A folder of finished units, each a few arrays; of another scan's units it is emptied.

    Each unit ends with the user's seal of the scan, its name and its arrays: what bears none is no
    unit.

    Args:
        folder: where they are kept; None keeps nothing.
        about: JSON-able dict that tells one scan from another.

    Raises:
        InputError: the folder is there and holds something else.
    """

    def __init__(self, folder, about):
        self.folder = None if folder is None else Path(folder)
        if self.folder is None:
            return
        self._about = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        note = self.folder / "scan.json"
        if not note.exists() and self.folder.exists() and any(self.folder.iterdir()):
            raise InputError(
                f"{self.folder}: expected a scan's finished units, but it holds something else; "
                "move it away or give another --out."
            )
        if _key(note) != self._about:
            self.forget()
            with atomic_write(note) as partial:
                partial.write_text(json.dumps({"key": self._about, "about": about}), "utf-8")

    def stored(self, name):
        """The unit `name` as a dict of arrays, or None where it is not there or not this user's."""
        if self.folder is None:
            return None
        path = self.folder / f"{name}.npz"
        try:
            content = read_plain(path, _LARGEST_UNIT)
        except InputError:
            content = b""
        content, own = content[:-SIZE], content[-SIZE:]
        if not is_sealed(self._purpose(name), content, own):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)  # not ours, or damaged: made again
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)

    def keep(self, name, unit):
        """Writes the unit `name`, a dict of arrays; where no key can be kept, nothing."""
        if self.folder is None:
            return
        with io.BytesIO() as buffer:
            np.savez(buffer, **unit)
            content = buffer.getvalue()
        own = seal(self._purpose(name), content)
        if own is not None:
            with atomic_write(self.folder / f"{name}.npz") as partial:
                partial.write_bytes(content + own)

    def _purpose(self, name):
        return f"unit {name} of scan {self._about} by {code_sha256()}"

    def forget(self):
        """Removes the units, and the folder unless it holds something else, too."""
        if self.folder is None or not self.folder.is_dir():
            return
        for one in self.folder.iterdir():
            if one.suffix in (".npz", ".json"):
                one.unlink()
        with contextlib.suppress(OSError):
            self.folder.rmdir()
