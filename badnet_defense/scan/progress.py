"""Finished units of a scan on disk, so that one that was killed goes on where it stopped."""

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np

from badnet_defense.data.files import replace_when_done
from badnet_defense.errors import InputError


def _key(note):
    """The key in a folder's note; None where there is none, or a damaged one."""
    try:
        return json.loads(note.read_text("utf-8"))["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Progress:
    """A folder of finished units, each a few arrays; of another scan's units it is emptied.

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
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        note = self.folder / "scan.json"
        if not note.exists() and self.folder.exists() and any(self.folder.iterdir()):
            raise InputError(
                f"{self.folder}: expected a scan's finished units, but it holds something else; "
                "move it away or give another --out."
            )
        if _key(note) != key:
            self.forget()
            with replace_when_done(note) as partial:
                partial.write_text(json.dumps({"key": key, "about": about}), "utf-8")

    def stored(self, name):
        """The unit `name` as a dict of arrays, or None where it is not there or damaged."""
        if self.folder is None or not (path := self.folder / f"{name}.npz").exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile):
            path.unlink()  # not ours, or damaged: made again
            return None

    def keep(self, name, unit):
        """Writes the unit `name`, a dict of arrays."""
        if self.folder is not None:
            with replace_when_done(self.folder / f"{name}.npz") as partial:
                np.savez(partial, **unit)

    def forget(self):
        """Removes the folder with all its units."""
        if self.folder is not None and self.folder.exists():
            shutil.rmtree(self.folder)
