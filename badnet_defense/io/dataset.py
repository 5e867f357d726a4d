"""Images with or without labels, as every part of the project passes them on."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from badnet_defense.errors import InputError
from badnet_defense.io.labels import check_label_shape, check_labels
from badnet_defense.io.pixels import as_pixels


@dataclass(frozen=True)
class Dataset:
    """Images in memory, as small as they can be held, and checked when the data set is made.

    Args:
        images: (n, height, width, channels), n > 0, of any integer or float dtype, pixels 0-255;
            held as `uint8`, or as `float32` where a value is not whole.
        labels: (n,) or (n, 1) class numbers from 0, held as (n,) `int64`; None for unlabelled
            images.
        source: where they came from, for messages (a path, or "array").
        synthetic: True where the file says that its images were drawn by the demo.
        folders: names of the class folders they came from, sorted as text; None where they came
            from no class folders.
        label_order: how the labels were found to be numbered (`label_order`); None where nobody
            asked yet.
        sha256: `data_sha256` of the file or folder when it was read; None where it was none.

    Raises:
        InputError: images that are no numbers, not 4-D, channels first, outside 0-255 or scaled to
            [0, 1]; labels that are one-hot, of another length, not whole or negative.

    Examples:
        >>> import numpy as np
        >>> from badnet_defense import Dataset
        >>> data = Dataset(np.full((2, 55, 47, 3), 128.0), [[4], [0]])
        >>> len(data), data.images.dtype, data.labels
        (2, dtype('uint8'), array([4, 0]))
        >>> Dataset(np.full((2, 55, 47, 3), 0.5))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        badnet_defense.errors.InputError: array: pixels lie between 0 and 1, expected 0-255; ...
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    source: str = "array"
    synthetic: bool = False
    folders: tuple[str, ...] | None = None
    label_order: str | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        images = as_pixels(_array(self.images, "images", self.source), self.source)
        labels = self.labels
        if labels is not None:
            labels = _array(labels, "labels", self.source)
            check_label_shape(labels.shape, len(images), self.source)
            labels = check_labels(labels.reshape(-1), None, self.source)
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: np.ndarray) -> Dataset:
        """The images at `indices` (an integer or boolean array), with their labels."""
        labels = None if self.labels is None else self.labels[indices]
        return self._with(images=self.images[indices], labels=labels)

    def sample(self, most: int, seed: int) -> Dataset:
        """At most `most` of the images, drawn at random by `seed`, in the order they have."""
        chosen = np.random.default_rng(seed).permutation(len(self))[:most]
        return self.subset(np.sort(chosen))

    def fingerprint(self) -> str:
        """A SHA-256 of the images, in whatever file they are; labels play no part."""
        about = f"{self.images.dtype} {self.images.shape}".encode()
        return sha256(about + np.ascontiguousarray(self.images).tobytes()).hexdigest()

    def without_labels(self) -> Dataset:
        """The same images, unlabelled."""
        return self._with(labels=None)

    def _with(self, **fields: Any) -> Dataset:
        """A copy with parts of what this one holds, which was checked: `replace` checks anew."""
        part = object.__new__(type(self))
        vars(part).update(vars(self), **fields)
        return part


def _array(values: Any, what: str, source: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{source}: {what} are no array ({str(error)[:80]}), expected one of NumPy."
        ) from None
