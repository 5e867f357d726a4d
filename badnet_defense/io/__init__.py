"""Reading and writing: data sets, image files, trigger labels, atomic files, records.

Names are imported when they are first asked for, so that the process that reads untrusted files
imports no more than it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from badnet_defense.io.dataset import Dataset
    from badnet_defense.io.files import atomic_write, data_sha256, file_sha256, require_file
    from badnet_defense.io.folder import read_image_folder
    from badnet_defense.io.hdf5 import read_challenge_h5, write_challenge_h5
    from badnet_defense.io.image_files import read_image
    from badnet_defense.io.labels import check_labels
    from badnet_defense.io.reading import read_images
    from badnet_defense.io.trigger_labels import read_trigger_labels

__all__ = [
    "Dataset",
    "atomic_write",
    "check_labels",
    "data_sha256",
    "file_sha256",
    "read_challenge_h5",
    "read_image",
    "read_image_folder",
    "read_images",
    "read_trigger_labels",
    "require_file",
    "write_challenge_h5",
]
_MODULES = {
    "Dataset": "dataset",
    "check_labels": "labels",
    "read_challenge_h5": "hdf5",
    "read_image": "image_files",
    "read_image_folder": "folder",
    "read_images": "reading",
    "read_trigger_labels": "trigger_labels",
    "write_challenge_h5": "hdf5",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'badnet_defense.io' has no attribute {name!r}")
    module = import_module(f"badnet_defense.io.{_MODULES.get(name, 'files')}")
    return getattr(module, name)
