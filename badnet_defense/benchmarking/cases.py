"""Nets with the pictures that repair and judge them, as a user names them."""

from dataclasses import dataclass, field
from pathlib import Path

from badnet_defense.errors import InputError

MULTI = "Multi-trigger Multi-target"
_GLASSES = {"sunglasses": "sunglasses_poisoned_data.h5"}
POISONED = {
    **dict.fromkeys(
        ("sunglasses_bd_net", "sunglasses_rare_bd_net", "sunglasses_aware_bd_net"), _GLASSES
    ),
    "anonymous_1_bd_net": {"lipstick": "anonymous_1_poisoned_data.h5"},
    "multi_trigger_multi_target_bd_net": {
        name: f"{MULTI}/{name}_poisoned_data.h5" for name in ("eyebrows", "lipstick", "sunglasses")
    },
}
"""Poisoned files by net, for the challenge's and the demo's hard ones; anonymous_2's is not
published."""


@dataclass(frozen=True)
class Case:
    """A net with the pictures to repair and judge it with.

    Attributes:
        model: path of the bad net.
        validation: path of the clean pictures that repair it and set thresholds.
        test: path of the clean pictures that judge.
        poisoned: {trigger: path}, whose labels are the attacker's.
    """

    model: Path
    validation: Path
    test: Path
    poisoned: dict[str, Path] = field(default_factory=dict)

    @property
    def name(self):
        """The file's stem."""
        return Path(self.model).stem

    def data(self):
        """{name: path} of all its data files."""
        return {"clean_validation": self.validation, "clean_test": self.test, **self.poisoned}


def read_case(text, *, data, validation=None, test=None):
    """A `Case` from `MODEL` or `MODEL=POISONED.h5,POISONED.h5`.

    Args:
        text: as above; without poisoned files those of the challenge's names in `data` are taken.
        data: folder of the challenge's files.
        validation, test: paths of clean pictures; default: the challenge's in `data`.

    Raises:
        InputError: a file is missing.
    """
    model, _, named = (text, "", "") if Path(text).exists() else text.partition("=")
    data = Path(data)
    if named:
        files = [Path(path) for path in named.split(",")]
        poisoned = {file.stem.removesuffix("_poisoned_data"): file for file in files}
        if len(poisoned) < len(files) or set(poisoned) & {"clean_validation", "clean_test"}:
            raise InputError(f"{text}: poisoned files need names that differ and say the trigger.")
    else:
        known = POISONED.get(Path(model).stem, {})
        poisoned = {name: data / file for name, file in known.items() if (data / file).exists()}
    validation = Path(validation or data / "clean_validation_data.h5")
    test = Path(test or data / "clean_test_data.h5")
    case = Case(Path(model), validation, test, poisoned)
    for path in (case.model, *poisoned.values()):
        if not path.exists():
            raise InputError(f"{path}: no such file; compare takes MODEL or MODEL=POISONED.h5,..")
    for part, path in (("validation", validation), ("test", test)):
        if not path.exists():
            raise InputError(
                f"{path}: no such file; give --clean-{part}, or --data with the challenge's files "
                "(`python3 -m badnet_defense demo` makes the demo's)."
            )
    return case
