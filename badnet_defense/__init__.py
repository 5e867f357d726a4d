"""BadNet Defense: repairs and guards for image classifiers that somebody else trained.

Importing this package does not import TensorFlow; the first net that is built does.

Examples:
    >>> import badnet_defense as bd
    >>> net = bd.load_net("models/sunglasses_bd_net.h5")  # no code of the file runs
    >>> net.classes, net.input_shape
    (1283, (55, 47, 3))
"""

import os
import sys


def _leave_out_working_folder() -> None:
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
from typing import TYPE_CHECKING, Any  # noqa: E402

if TYPE_CHECKING:
    from badnet_defense import attacks, detectors, repairs
    from badnet_defense.errors import CannotJudgeError, InputError
    from badnet_defense.evaluation.evaluate import evaluate
    from badnet_defense.io import Dataset, read_images
    from badnet_defense.nets import Net, describe, load_net, save_net
    from badnet_defense.nets.input_range import InputRange
    from badnet_defense.repairs import repair
    from badnet_defense.scan.scan import scan
    from badnet_defense.workflows.guard import build_guard

_PLACES = {
    "CannotJudgeError": "badnet_defense.errors",
    "Dataset": "badnet_defense.io",
    "InputError": "badnet_defense.errors",
    "InputRange": "badnet_defense.nets.input_range",
    "Net": "badnet_defense.nets",
    "build_guard": "badnet_defense.workflows.guard",
    "describe": "badnet_defense.nets",
    "evaluate": "badnet_defense.evaluation.evaluate",
    "load_net": "badnet_defense.nets",
    "read_images": "badnet_defense.io",
    "repair": "badnet_defense.repairs",
    "save_net": "badnet_defense.nets",
    "scan": "badnet_defense.scan.scan",
}
__version__ = "0.2.0"
_FOLDERS = ("attacks", "detectors", "repairs")
__all__ = [
    "CannotJudgeError",
    "Dataset",
    "InputError",
    "InputRange",
    "Net",
    "__version__",
    "attacks",
    "build_guard",
    "describe",
    "detectors",
    "evaluate",
    "load_net",
    "read_images",
    "repair",
    "repairs",
    "save_net",
    "scan",
]


def __getattr__(name: str) -> Any:
    # Looked up when asked for: most of it needs Keras, which takes three seconds.
    if name in _FOLDERS:
        return import_module(f"badnet_defense.{name}")
    if name not in _PLACES:
        raise AttributeError(f"module 'badnet_defense' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
