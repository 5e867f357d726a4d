"""Nets: DeepID, loading nets that nobody trusts, saving, and fast prediction.

Importing this package does not import TensorFlow; building or running a net does.
"""

from badnet_defense.nets.build import build, copy_model, describe
from badnet_defense.nets.deepid import deep_id
from badnet_defense.nets.net import Net
from badnet_defense.nets.outputs import as_given, as_probabilities, load_net, read_classifier
from badnet_defense.nets.predict import predict_labels, predict_probabilities
from badnet_defense.nets.reader import read_net
from badnet_defense.nets.writer import save_net, save_weights

__all__ = [
    "Net",
    "as_given",
    "as_probabilities",
    "build",
    "copy_model",
    "deep_id",
    "describe",
    "load_net",
    "predict_labels",
    "predict_probabilities",
    "read_classifier",
    "read_net",
    "save_net",
    "save_weights",
]
