"""Files as every part of the project opens, identifies and writes them."""

import contextlib
import hashlib
import os
from pathlib import Path

from badnet_defense.errors import InputError


def require_file(path, expected):
    """`path` as a `Path`, if it is a file; `expected` says what should be there, for the message.

    Raises:
        InputError: nothing is there, or a folder is, or it may not be read.
    """
    if os.path.isdir(path):
        raise InputError(f"{path}: this is a folder, expected {expected}.")
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file, expected {expected}; check the path.")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: may not be read, expected {expected}; check its permissions.")
    return Path(path)


def file_sha256(path):
    """The SHA-256 of a file's bytes, 64 hex digits; raises `InputError` where there is no file."""
    with open(require_file(path, "a file"), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def data_sha256(path):
    """The SHA-256 of a data set: of a file's bytes, or of a folder's file names and their bytes.

    A folder's digest is that of the lines "<SHA-256>  <path below the folder>", sorted by path,
    which is what `sha256sum` prints for them.
    """
    path = Path(path)
    if not path.is_dir():
        return file_sha256(path)
    names = sorted(found.relative_to(path).as_posix() for found in path.rglob("*"))
    lines = [f"{file_sha256(path / name)}  {name}\n" for name in names if (path / name).is_file()]
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


@contextlib.contextmanager
def replace_when_done(path):
    """Gives a temporary path beside `path`, renamed to it on success and removed on failure.

    So an interrupted run never leaves half a file, and a reader sees the old file or the new one.
    The folder is made if need be. The temporary name keeps the suffix, since some writers choose
    the format by it.

    Example:
        >>> with replace_when_done("results/table.json") as partial:
        ...     partial.write_text("{}")

    Raises:
        InputError: `path` is a folder, or a folder on the way to it cannot be made.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: this is a folder, expected the name of a file to write.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written, since {path.parent} is no folder and cannot be made one."
        ) from error
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
