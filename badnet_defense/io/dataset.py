"""Images with or without labels, as every part of the project passes them on."""

from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np


@dataclass(frozen=True)
class Dataset:
    """Pictures in memory, as small as they can be held.

    Args:
        images: (n, h, w, channels), `uint8` 0-255, or `float32` 0-255 where a value is not whole.
        labels: (n,) `int64` class numbers, or None for unlabelled pictures.
        source: where they came from, for messages (a path, or "array").
        synthetic: True where the file says that its pictures were drawn by the demo.
        folders: names of the class folders they came from, sorted as text; None where they came
            from no class folders.
        sha256: `data_sha256` of the file or folder when it was read; None where it was none.
        label_order: how the labels were found to be numbered (`label_order`); None where nobody
            asked yet.
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    source: str = "array"
    synthetic: bool = False
    folders: tuple[str, ...] | None = None
    label_order: str | None = None
    sha256: str | None = None

    def __len__(self):
        return len(self.images)

    def subset(self, indices):
        """The pictures at `indices` (an integer or boolean array), with their labels."""
        labels = None if self.labels is None else self.labels[indices]
        return replace(self, images=self.images[indices], labels=labels)

    def sample(self, most, seed):
        """At most so many of the pictures, drawn at random by `seed`, in the order they have."""
        chosen = np.random.default_rng(seed).permutation(len(self))[:most]
        return self.subset(np.sort(chosen))

    def fingerprint(self):
        """A SHA-256 of the pictures, in whatever file they are; labels play no part."""
        about = f"{self.images.dtype} {self.images.shape}".encode()
        return sha256(about + np.ascontiguousarray(self.images).tobytes()).hexdigest()

    def without_labels(self):
        """The same pictures, unlabelled."""
        return replace(self, labels=None)
