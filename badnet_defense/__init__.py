"""BadNet Defense: repairs and guards for image classifiers that somebody else trained.

Importing this package does not import TensorFlow; the first net that is built does.
"""

from importlib import import_module

_PLACES = {
    "InputError": "badnet_defense.errors",
    "InputRange": "badnet_defense.data.input_range",
    "LabelledImages": "badnet_defense.data",
    "build": "badnet_defense.nets",
    "build_guard": "badnet_defense.guard.disagreement",
    "describe": "badnet_defense.nets",
    "export_portable": "badnet_defense.guard.portable",
    "fine_prune": "badnet_defense.repair.fine_pruning",
    "load_net": "badnet_defense.nets",
    "read_images": "badnet_defense.data",
    "read_net": "badnet_defense.nets",
    "save_net": "badnet_defense.nets",
}
__all__ = sorted(_PLACES)


def __getattr__(name):
    # Looked up when asked for: the guard's module needs Keras, which takes three seconds.
    if name not in _PLACES:
        raise AttributeError(f"module 'badnet_defense' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
