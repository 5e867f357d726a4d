"""Models with the images that repair and measure them, as a user names them."""

from __future__ import annotations

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
"""Poisoned files by model, for the challenge's and the demo's hard ones; anonymous_2's is not
published."""


@dataclass(frozen=True)
class BenchmarkCase:
    """A model with the images to repair and measure it with.

    Attributes:
        model: path of the suspect model.
        validation: path of the clean images that repair it and set thresholds.
        test: path of the clean images that accuracy and false positives are measured on.
        poisoned: {trigger: path}, whose labels are the attacker's.
    """

    model: Path
    validation: Path
    test: Path
    poisoned: dict[str, Path] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The file's stem."""
        return Path(self.model).stem

    def data(self) -> dict[str, Path]:
        """{name: path} of all its data files."""
        return {"clean_validation": self.validation, "clean_test": self.test, **self.poisoned}


def read_case(
    text: str,
    *,
    data: str | Path,
    validation: str | Path | None = None,
    test: str | Path | None = None,
) -> BenchmarkCase:
    """A `BenchmarkCase` from `MODEL` or `MODEL=POISONED.h5,POISONED.h5`.

    Args:
        text: as above; without poisoned files those of the challenge's names in `data` are taken.
        data: folder of the challenge's files.
        validation, test: paths of clean images; default: the challenge's in `data`.

    Raises:
        InputError: a file is missing.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("net.h5", "hat_poisoned_data.h5", "clean_validation_data.h5"):
        ...         Path(folder, name).touch()
        ...     test = Path(folder, "clean_validation_data.h5")
        ...     text = f"{folder}/net.h5={folder}/hat_poisoned_data.h5"
        ...     case = read_case(text, data=folder, test=test)
        >>> case.name, list(case.poisoned)
        ('net', ['hat'])
    """
    model, _, named = (text, "", "") if Path(text).exists() else text.partition("=")
    data = Path(data)
    if named:
        files = [Path(path) for path in named.split(",")]
        poisoned = {file.stem.removesuffix("_poisoned_data"): file for file in files}
        if len(poisoned) < len(files) or set(poisoned) & {"clean_validation", "clean_test"}:
            raise InputError(
                f"{text}: poisoned files need different names, each of which names its trigger."
            )
    else:
        known = POISONED.get(Path(model).stem, {})
        poisoned = {name: data / file for name, file in known.items() if (data / file).exists()}
    validation = Path(validation or data / "clean_validation_data.h5")
    test = Path(test or data / "clean_test_data.h5")
    case = BenchmarkCase(Path(model), validation, test, poisoned)
    for path in (case.model, *poisoned.values()):
        if not path.exists():
            raise InputError(f"{path}: no such file; expected MODEL or MODEL=POISONED.h5,..")
    for part, path in (("validation", validation), ("test", test)):
        if not path.exists():
            raise InputError(
                f"{path}: no such file; name clean {part} images, or the folder of the "
                "challenge's files (`badnet-defense demo` makes the demo's)."
            )
    return case
