"""Reading pictures and labels: challenge HDF5 files, folders, single pictures, trigger labels."""

from badnet_defense.data.files import data_sha256, file_sha256, replace_when_done, require_file
from badnet_defense.data.folder import read_picture_folder
from badnet_defense.data.hdf5 import read_challenge_h5, write_challenge_h5
from badnet_defense.data.images import LabelledImages
from badnet_defense.data.input_range import UNIT, InputRange
from badnet_defense.data.labels import check_labels
from badnet_defense.data.picture import read_picture
from badnet_defense.data.reading import read_images
from badnet_defense.data.trigger_labels import read_trigger_labels

__all__ = [
    "UNIT",
    "InputRange",
    "LabelledImages",
    "check_labels",
    "data_sha256",
    "file_sha256",
    "read_challenge_h5",
    "read_images",
    "read_picture",
    "read_picture_folder",
    "read_trigger_labels",
    "replace_when_done",
    "require_file",
    "write_challenge_h5",
]
