"""The project's own errors: each message is one sentence for the person at the keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

MAX_LENGTH = 1500
"""Characters of a message."""


def printable(text: object, *, besides: str = "") -> str:
    """A text with the code in place of each character that cannot be printed, line breaks too.

    Such as those that move a terminal's cursor; a file's name may hold them.

    Args:
        text: or what is one as `str`.
        besides: characters that may stay.

    Examples:
        >>> printable("two" + chr(10) + "lines", besides=chr(10)).splitlines()
        ['two', 'lines']
    """
    return "".join(
        one if one.isprintable() or one in besides else f"\\x{ord(one):02x}" for one in str(text)
    )


def one_line(text: object) -> str:
    """A text as one line of printable characters, at most `MAX_LENGTH` and two dots."""
    shown = printable(" ".join(str(text).split()))
    return shown if len(shown) <= MAX_LENGTH else shown[:MAX_LENGTH] + " .."


class InputError(ValueError):
    """A file or value that cannot be used: says what came, what was expected and what to do.

    The scripts print the message on stderr and exit with code 2, without a traceback. What a file
    says of itself may stand in it: it is always one line of printable characters.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class CannotJudgeError(InputError):
    """The input is what was expected, but no verdict can be reached on it: exit code 3.

    "Cannot tell" is never reported as "nothing found".
    """


class UnsafeFileError(InputError):
    """A file asks for more than plain values that lie in the file itself."""


class LinkInFileError(UnsafeFileError):
    """An HDF5 file holds a soft, external or user-defined link where values were expected."""


class ValuesElsewhereError(UnsafeFileError):
    """An HDF5 array's values lie in other files: external storage or a virtual dataset."""


class FilterInFileError(UnsafeFileError):
    """An HDF5 array is packed by a filter that is not built in, so it would load a plug-in."""


class TooLargeError(UnsafeFileError):
    """A file claims, or unpacks to, more bytes than are allowed."""


class MemberError(UnsafeFileError):
    """A `.keras` file holds other members than Keras writes."""


class LinkOutError(UnsafeFileError):
    """A folder of images holds a link to something outside of it."""


class ReaderError(UnsafeFileError):
    """The process that reads a file crashed, or was stopped by a limit on memory or time."""


class UnsafeNetError(UnsafeFileError):
    """A net's file asks for something that is not a plain layer with plain weights."""


class CodeInNetError(UnsafeNetError):
    """A net's configuration names code: a Lambda, a class, a function or a module of its own."""


class WeightError(UnsafeNetError):
    """A net's weights are missing, or of another shape or dtype, or not finite."""


class LostTaskError(InputError):
    """A task that has lost its workers again and again; `place` is its number."""

    def __init__(self, message: str, place: int) -> None:
        super().__init__(message)
        self.place = place


class ExecutorError(InputError):
    """What runs the tasks, such as a cluster, is gone, whatever it was working on."""


@contextmanager
def naming(path: object) -> Iterator[None]:
    """Puts a file's name before every refusal that is raised inside."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{path}: {error}") from None
