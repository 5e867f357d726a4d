"""What a backdoor leaves in the last layer's weights, read without a single image.

Fields et al., "Trojan Signatures in DNN Weights", ICCV Workshops 2021: a net that answers with one
label whenever the trigger is there, whatever else is, has learnt weights into that label that are
larger on average than those into any other. It asks nothing of the trigger's size. Departure: not
Dixon's test on the largest mean alone, but an index for each label, so that several targets show.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from badnet_defense.nets.graph import without_softmax
from badnet_defense.nets.net import Net
from badnet_defense.scan.registry import SCAN_PASSES, WEIGHTS


@dataclass(frozen=True)
class WeightsConfig:
    """The weights are taken as they are: there is nothing to set."""


@SCAN_PASSES.register(
    "weights",
    summary="outliers in the last layer's weights, whatever the trigger's size",
    config=WeightsConfig,
    paper="Fields et al., Trojan Signatures in DNN Weights, ICCV Workshops 2021",
    kind=WEIGHTS,
)
def weight_sums(net: Net, config: WeightsConfig = WeightsConfig()) -> np.ndarray | None:
    """(N,) sums of the weights into each label, from the layer whose results are the logits.

    Returns:
        None where the logits are not those of a dense layer.

    Examples:
        >>> from badnet_defense.nets import deep_id, describe
        >>> net = describe(deep_id(classes=10))
        >>> sums, kernel = weight_sums(net), net.model.layers[-1].get_weights()[0]
        >>> sums.shape, bool(np.allclose(sums, kernel.sum(axis=0)))
        ((10,), True)
    """
    net = without_softmax(net)
    layer = net.layers[net.calls[net.output].layer]
    if layer.kind != "Dense" or layer.config.get("activation", "linear") != "linear":
        return None
    return np.asarray(np.sum(layer.weights[0], axis=0, dtype=np.float64))
