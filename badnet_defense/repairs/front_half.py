"""Runs the part of a net before a layer once and keeps what the part behind it needs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from badnet_defense.nets.graph import descendants, submodel
from badnet_defense.nets.net import Net, call_shapes
from badnet_defense.nets.predict import compiled
from badnet_defense.nets.shapes import images_at_once
from badnet_defense.nets.surgery import activation_position, channelwise_run

BATCH = 2048
"""Images in a batch: behind the layer, smaller batches cost more than they compute."""
MAX_CACHE = 2 * 2**30
"""Bytes of results that are kept in memory; more are computed again in each pass."""


class FrontHalf:
    """Everything up to the last place where a layer's channels are still apart.

    Args:
        net: the suspect model.
        layer: the layer whose channels are ranked.
        images: (n, h, w, c), pixels 0-255.

    Attributes:
        frontier: position of the last result that keeps the channels apart.
        sides: positions of results that do not depend on the layer, but that the rest needs.
        mean_activation: (channels,) mean over images and positions.
    """

    def __init__(self, net: Net, layer: str, images: np.ndarray) -> None:
        self.net, self.images = net, images
        run = channelwise_run(net, layer)
        self.frontier = run[-1]
        later = descendants(net, run[0])
        sources = {source for position in later - set(run) for source in net.calls[position].inputs}
        self.sides = sorted(sources - later)
        self._positions = [activation_position(net, layer), self.frontier, *self.sides]
        self._run = compiled(submodel(net, [0], self._positions), net.input_range, labels=False)
        shapes = call_shapes(net)
        self._batch = images_at_once(net, BATCH)
        size = 4 * len(images) * sum(int(np.prod(shapes[p])) for p in self._positions[1:])
        self._kept: list[list[np.ndarray]] | None = [] if size <= MAX_CACHE else None
        self.mean_activation = self._first_pass()

    def _first_pass(self) -> np.ndarray:
        total, count = np.zeros(()), 0
        for indices in tqdm(self._batches(), desc="activations", leave=False, disable=None):
            activations, *rest = self._results(indices)
            axes = tuple(range(activations.ndim - 1))
            total = total + activations.sum(axis=axes, dtype=np.float64)
            count += activations[..., 0].size
            if self._kept is not None:
                self._kept.append(rest)
        return total / count

    def _batches(self) -> list[slice]:
        count, batch = len(self.images), self._batch
        return [slice(start, min(start + batch, count)) for start in range(0, count, batch)]

    def _results(self, indices: slice) -> list[np.ndarray]:
        return [result.numpy() for result in self._run(self.images[indices])]

    def __iter__(self) -> Iterator[tuple[slice, np.ndarray, list[np.ndarray]]]:
        """(slice, frontier, sides) of each batch; the arrays must not be written to."""
        for number, indices in enumerate(self._batches()):
            results = self._results(indices)[1:] if self._kept is None else self._kept[number]
            yield indices, results[0], results[1:]
