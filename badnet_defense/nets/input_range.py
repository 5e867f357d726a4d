"""The range of pixel values that a net takes: [0, 1] for the challenge's nets, 0-255 for others."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike

import numpy as np

from badnet_defense.errors import InputError


@dataclass(frozen=True)
class InputRange:
    """Pixel values 0-255 are mapped linearly onto `low`..`high` before a net sees them.

    Args:
        low, high: what a net takes for black and for white, `low` < `high`.
    """

    low: float = 0.0
    high: float = 1.0

    @classmethod
    def parse(cls, text: str) -> InputRange:
        """The range of a text like "0,255".

        Raises:
            InputError: the text holds anything but two numbers, the smaller one first.

        Examples:
            >>> InputRange.parse("-1,1")
            InputRange(low=-1.0, high=1.0)
        """
        try:
            low, high = (float(part) for part in text.split(","))
        except ValueError:
            low = high = 0.0
        if not (np.isfinite([low, high]).all() and low < high):
            raise InputError(
                f"input range {text!r}: expected two numbers, black and white, like 0,1 or 0,255."
            )
        return cls(low, high)

    @property
    def multiplier(self) -> float:
        """What a 0-255 pixel is multiplied by, before `low` is added."""
        return (self.high - self.low) / 255.0

    def scale(self, images: np.ndarray) -> np.ndarray:
        """`float32` copy of `images` (0-255) in this range; meant for one batch at a time."""
        scaled = np.multiply(images, np.float32(self.multiplier), dtype=np.float32)
        return scaled + np.float32(self.low) if self.low else scaled

    def __str__(self) -> str:
        return f"{self.low:g},{self.high:g}"


UNIT = InputRange(0.0, 1.0)
"""The challenge's range."""


def agreed_range(
    stored: InputRange | None, given: InputRange | None, file: str | PathLike[str]
) -> InputRange:
    """The input range of a model that was read from a file.

    Args:
        stored: the range recorded in the file, or None where it records none.
        given: the range the caller names, or None.
        file: its path, for the message.

    Returns:
        the one that is known; [0, 1] where none is.

    Raises:
        InputError: both are known and differ.

    Examples:
        >>> str(agreed_range(None, None, "net.h5"))
        '0,1'
        >>> str(agreed_range(InputRange(0, 255), None, "net.h5"))
        '0,255'
    """
    if stored is not None and given is not None and str(given) != str(stored):  # six digits
        raise InputError(
            f"{file}: it was made for pixels in {stored}, but {given} was asked for; give "
            f"{stored} as the input range, or none."
        )
    return given or stored or UNIT
