"""What every command shares: quiet TensorFlow, messages on stderr, exit codes."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TextIO

from badnet_defense.cli import crash
from badnet_defense.errors import CannotJudgeError, InputError, one_line, printable
from badnet_defense.io.files import own_temporary_files
from badnet_defense.sandbox import client as isolation
from badnet_defense.sandbox.limits import current, set_limits

FOUND, BAD_INPUT, CANNOT_JUDGE, STOPPED = 1, 2, 3, 130
"""Exit codes beside 0, "done, and nothing found"."""


class _Output:
    """Standard output for text that may come from files: it can move no cursor and fool nobody.

    Where its reader has gone, as `head` does, the rest is dropped, and the work goes on.

    Attributes:
        error: why nothing more can be written, other than that; None if it can.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(printable(text, besides="\n\t")))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, do: Callable[[], object]) -> None:
        try:
            do()
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                self.error = error
            with contextlib.suppress(OSError, ValueError):  # or what is left would fail at the end
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)


class _OneLine(logging.Formatter):
    """Each message as one line of printable characters."""

    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record))


def _show_crash(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """A traceback, of printable characters: what a file says may stand in it."""
    text = "".join(traceback.format_exception(kind, error, trace))
    sys.stderr.write(printable(text, besides="\n\t"))


@contextlib.contextmanager
def _speaking() -> Iterator[_Output]:
    """Messages on stderr, answers on stdout, neither able to fail for a character."""
    sys.excepthook = _show_crash
    before = sys.stdout
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(message)s"))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("badnet_defense").setLevel(logging.INFO)
    output = _Output(before)
    sys.stdout = output  # type: ignore[assignment]  # all of a stream that is used
    try:
        yield output
    finally:
        sys.stdout.flush()
        sys.stdout = before


@contextlib.contextmanager
def _safe_children() -> Iterator[None]:
    """Python processes that are started look for no modules in the working folder."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        del os.environ["PYTHONSAFEPATH"]
        if before is not None:
            os.environ["PYTHONSAFEPATH"] = before


def run(main: Callable[[], int | None]) -> None:
    """Runs `main()` as a script and ends the process with one of the exit codes.

    Args:
        main: called without arguments; gives the exit code, or None for 0: a command whose job is
            a verdict gives `FOUND` or `CANNOT_JUDGE` itself once its answer is printed. Bad input
            and what cannot be judged may also be raised; they are one sentence on stderr.
    """
    crash.watch(CANNOT_JUDGE, memory=2 * isolation.memory_limit())
    # TensorFlow's C++ side reads these once, when it is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _speaking() as output, _safe_children():
        code = _code(main)
        output.flush()
        if output.error is not None:
            code = _told(
                f"standard output: {output.error.strerror}; run the command again.", BAD_INPUT
            )
    if code:
        sys.exit(code)


def _code(main: Callable[[], int | None]) -> int | None:
    """The exit code of `main()`."""
    before = current()
    try:
        with own_temporary_files():
            return main()
    except CannotJudgeError as error:
        return _told(str(error), CANNOT_JUDGE)
    except InputError as error:
        return _told(str(error), BAD_INPUT)
    except OSError as error:
        name = "a file" if error.filename is None else error.filename
        return _told(
            f"{name}: {error.strerror or error}; fix it and run the command again.", BAD_INPUT
        )
    except KeyboardInterrupt:
        crash.stopping()
        return _told(
            "stopped; no file is half-written. Rerun the command: what can be resumed is resumed.",
            STOPPED,
        )
    finally:
        isolation.stop()
        set_limits(**vars(before))


def load_tensorflow() -> None:
    """Imports TensorFlow without its C++ start-up chatter, which no setting silences.

    Called where a script knows that it needs it, so that bad arguments are answered at once.
    The process that reads files starts meanwhile.
    """
    from badnet_defense.nets.backend import load_quietly
    from badnet_defense.report.figures import load_matplotlib

    if os.path.lexists("matplotlibrc"):  # now, while no other thread looks for files here
        load_matplotlib()
    isolation.start()
    load_quietly()


def _told(message: str, code: int) -> int:
    with contextlib.suppress(OSError):  # nobody may be reading
        print(one_line(message), file=sys.stderr)
    return code
