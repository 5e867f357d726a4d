"""Runs the part of a net before a layer once and keeps what the part behind it needs."""

import numpy as np
from tqdm import tqdm

from badnet_defense.nets.graph import behind, part
from badnet_defense.nets.net import call_shapes
from badnet_defense.nets.predict import compiled
from badnet_defense.nets.shapes import images_at_once
from badnet_defense.nets.surgery import activation_position, channelwise_run

BATCH = 2048
"""Pictures at once: behind the layer, calls of fewer cost more than they compute."""
MOST_KEPT = 2 * 2**30
"""Bytes of results that are kept in memory; beyond it each pass computes them again."""


class FrontHalf:
    """Everything up to the last place where a layer's channels are still apart.

    Args:
        spec: the net.
        layer: the layer whose channels are judged.
        images: `Dataset`, n pictures.
        input_range: the net's range.

    Attributes:
        frontier: position of the last result that keeps the channels apart.
        sides: positions of results that do not depend on the layer, but that the rest needs.
        mean_activation: (channels,) mean over pictures and places.
    """

    def __init__(self, spec, layer, images, input_range):
        self.spec, self.images, self.input_range = spec, images, input_range
        run = channelwise_run(spec, layer)
        self.frontier = run[-1]
        later = behind(spec, run[0])
        sources = {
            source for position in later - set(run) for source in spec.calls[position].inputs
        }
        self.sides = sorted(sources - later)
        self._places = [activation_position(spec, layer), self.frontier, *self.sides]
        self._run = compiled(part(spec, [0], self._places), input_range, labels=False)
        shapes = call_shapes(spec)
        self._batch = images_at_once(spec, BATCH)
        size = 4 * len(images) * sum(int(np.prod(shapes[p])) for p in self._places[1:])
        self._kept = [] if size <= MOST_KEPT else None
        self.mean_activation = self._first_pass()

    def _first_pass(self):
        total, count = 0.0, 0
        for indices in tqdm(self._batches(), desc="activations", leave=False, disable=None):
            activations, *rest = self._results(indices)
            axes = tuple(range(activations.ndim - 1))
            total = total + activations.sum(axis=axes, dtype=np.float64)
            count += activations[..., 0].size
            if self._kept is not None:
                self._kept.append(rest)
        return total / count

    def _batches(self):
        count, batch = len(self.images), self._batch
        return [slice(start, min(start + batch, count)) for start in range(0, count, batch)]

    def _results(self, indices):
        return [result.numpy() for result in self._run(self.images.images[indices])]

    def __iter__(self):
        """(slice, frontier, sides) of each batch; the arrays must not be written to."""
        for number, indices in enumerate(self._batches()):
            kept = self._results(indices)[1:] if self._kept is None else self._kept[number]
            yield indices, kept[0], kept[1:]
