"""What a backdoor leaves in the last layer's weights, read without a single picture.

Fields et al., "Trojan Signatures in DNN Weights", ICCV Workshops 2021: a net that answers with one
label whenever the trigger is there, whatever else is, has learnt weights into that label that are
larger on average than those into any other. It asks nothing of the trigger's size. Departure: not
Dixon's test on the largest mean alone, but an index for each label, so that several targets show.
"""

import numpy as np

from badnet_defense.nets.graph import without_softmax


def weight_sums(spec):
    """(classes,) sums of the weights into each label, from the layer whose results are the logits.

    Args:
        spec: the net (`Net`).

    Returns:
        None where the logits are not those of a dense layer.
    """
    spec = without_softmax(spec)
    layer = spec.layers[spec.calls[spec.output].layer]
    if layer.kind != "Dense" or layer.config.get("activation", "linear") != "linear":
        return None
    return np.sum(layer.weights[0], axis=0, dtype=np.float64)
