"""Finished units of a scan on disk, so that one that was killed goes on where it stopped."""

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np

from badnet_defense.data.files import replace_when_done


class Progress:
    """A folder of finished units, each a few arrays; of another scan's units it is emptied.

    Args:
        folder: where they are kept; None keeps nothing.
        about: JSON-able dict that tells one scan from another.
    """

    def __init__(self, folder, about):
        self.folder = None if folder is None else Path(folder)
        if self.folder is None:
            return
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        note = self.folder / "scan.json"
        if not note.exists() or json.loads(note.read_text("utf-8")).get("key") != key:
            self.forget()
            with replace_when_done(note) as partial:
                partial.write_text(json.dumps({"key": key, "about": about}), "utf-8")

    def get(self, name, make):
        """The unit `name` as a dict of arrays, from the folder or else from `make()`."""
        if self.folder is None:
            return make()
        path = self.folder / f"{name}.npz"
        if path.exists():
            try:
                with np.load(path, allow_pickle=False) as stored:
                    return dict(stored)
            except (ValueError, OSError, zipfile.BadZipFile):
                path.unlink()  # not ours, or damaged: made again
        unit = make()
        with replace_when_done(path) as partial:
            np.savez(partial, **unit)
        return unit

    def forget(self):
        """Removes the folder with all its units."""
        if self.folder is not None and self.folder.exists():
            shutil.rmtree(self.folder)
