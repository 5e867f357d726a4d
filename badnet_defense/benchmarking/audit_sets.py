"""An audit's clean pictures: read once, sent to the workers once, forgotten with their last net."""

import threading
from collections import Counter
from functools import cache
from pathlib import Path

from badnet_defense.io import read_images
from badnet_defense.io.files import data_sha256
from badnet_defense.parallel.remote_files import RemoteFile
from badnet_defense.scan.scan import MAX_IMAGES

MOST_ASKED = 2000
"""Labelled clean pictures, drawn at random, that tell a net's accuracy."""


class CleanSets:
    """The clean pictures of all nets of an audit, for its threads.

    Args:
        paths: of the pictures, one for each net.
        engine: whose workers get them.
        seed: of what is drawn from them.
    """

    def __init__(self, paths, engine, seed):
        self._left = Counter(map(Path, paths))
        self._engine, self._seed = engine, seed
        self._lock, self._sets, self._parcels = threading.Lock(), {}, {}
        self.sha256 = cache(data_sha256)

    def images(self, path, shape):
        """(pictures that a scan draws from, `Dataset` that tell the accuracy)."""
        with self._lock:
            if (path, shape) not in self._sets:
                images = read_images(path, shape=shape, labels_matter=False)
                scanned = images.sample(MAX_IMAGES, self._seed).images
                self._sets[path, shape] = scanned, images.sample(MOST_ASKED, self._seed)
            return self._sets[path, shape]

    def parcel(self, path):
        """A handle of the file itself, for workers that may not see this machine's disk."""
        with self._lock:
            if path not in self._parcels:
                made = RemoteFile.of(path, apart=self._engine.apart)
                self._parcels[path] = made, self._engine.share(made)
            return self._parcels[path][1]

    def done(self, path):
        """A net that used the pictures is judged; after the last one they are forgotten."""
        with self._lock:
            self._left[path] -= 1
            if self._left[path]:
                return
            for key in [key for key in self._sets if key[0] == path]:
                scanned, sample = self._sets.pop(key)
                for value in (scanned, sample.images, sample.labels):
                    self._engine.release(value)
            if path in self._parcels:
                self._engine.release(self._parcels.pop(path)[0])
