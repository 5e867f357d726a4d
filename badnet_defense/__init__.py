"""BadNet Defense: repairs and guards for image classifiers that somebody else trained.

Importing this package does not import TensorFlow; the first net that is built does.
"""

import os
import sys


def _leave_out_working_folder():
    """Takes the working folder out of the places where modules are looked for.

    `python3 -m badnet_defense` and an empty entry of PYTHONPATH put it there, before the standard
    library: a folder that came with a suspect net could hold a module named `argparse` or `numpy`.
    """
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    unasked = named.count("") if any(named) else 0
    if any(named) and unasked:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, named))  # for processes it starts
    if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
        unasked += 1
    try:
        here = os.getcwd()
    except OSError:  # it was removed: nothing can lie in it
        return
    for _ in range(unasked):
        if here in sys.path:
            sys.path.remove(here)
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if unasked and here == root and root not in sys.path:
        # Workers import this very package: after everything else, but for another copy of it.
        name = os.path.basename(os.path.dirname(os.path.abspath(__file__)))
        others = [place for place in sys.path if os.path.isdir(os.path.join(place, name))]
        sys.path.insert(sys.path.index(others[0]) if others else len(sys.path), root)


# Before any other import: only modules that are compiled into Python are named above.
_leave_out_working_folder()

from importlib import import_module  # noqa: E402

_PLACES = {
    "InputError": "badnet_defense.errors",
    "InputRange": "badnet_defense.nets.input_range",
    "Dataset": "badnet_defense.io",
    "build": "badnet_defense.nets",
    "build_guard": "badnet_defense.guards.disagreement",
    "describe": "badnet_defense.nets",
    "export_portable": "badnet_defense.guards.portable",
    "fine_prune": "badnet_defense.repairs.fine_pruning",
    "load_net": "badnet_defense.nets",
    "read_images": "badnet_defense.io",
    "read_net": "badnet_defense.nets",
    "save_net": "badnet_defense.nets",
}
__all__ = sorted(_PLACES)


def __getattr__(name):
    # Looked up when asked for: the guard's module needs Keras, which takes three seconds.
    if name not in _PLACES:
        raise AttributeError(f"module 'badnet_defense' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
