"""Files as every part of the project opens, identifies and writes them."""

import contextlib
import errno
import glob
import hashlib
import io
import os
import tempfile
from pathlib import Path

import h5py
from filelock import FileLock, Timeout

from badnet_defense.errors import InputError, LinkOutError

_NO_PLACE = {errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM}


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
    check_links(path)
    names = sorted(found.relative_to(path).as_posix() for found in path.rglob("*"))
    lines = [f"{file_sha256(path / name)}  {name}\n" for name in names if (path / name).is_file()]
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def check_links(folder):
    """Refuses a folder that holds a link to something outside of it: it would be read, too.

    Raises:
        LinkOutError: at the first such link.
    """
    root = Path(folder).resolve()
    for found in Path(folder).rglob("*"):
        try:
            out = found.is_symlink() and not found.resolve(strict=True).is_relative_to(root)
        except (OSError, RuntimeError):  # it leads nowhere, or to itself
            out = True
        if out:
            raise LinkOutError(
                f"{found}: this is a link out of {folder}, expected the pictures themselves; copy "
                "them there."
            )


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
    _clear_away(path)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        places = {"None", str(path), str(partial), str(path.parent)}
        if error.errno not in _NO_PLACE or str(error.filename) not in places:
            raise
        raise InputError(
            f"{path}: cannot be written ({error.strerror}), nothing half-written is left; "
            "make room or name another place."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def new_hdf5(path):
    """An open `h5py.File` that becomes the file `path` once it is whole.

    It is made in memory: on a full disk h5py could neither go on nor close a file cleanly.

    Raises:
        InputError: as `replace_when_done`.
    """
    with replace_when_done(path) as partial, io.BytesIO() as content:
        with h5py.File(content, "w") as file:
            yield file
        with open(partial, "wb") as target:
            target.write(content.getbuffer())


def _clear_away(path):
    """Removes what runs that were killed have left of this file."""
    for left in path.parent.glob(f".{glob.escape(path.stem)}.*.partial{glob.escape(path.suffix)}"):
        number = left.name[len(path.stem) + 2 :].split(".")[0]
        if number.isascii() and number.isdecimal() and len(number) < 10 and not alive(int(number)):
            with contextlib.suppress(OSError):
                left.unlink()


def alive(number):
    """True where a process of that number is running."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def own_folder():
    """A folder for temporary files that only this user may enter.

    Raises:
        InputError: somebody else has made it.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"badnet_defense.{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if folder.is_symlink() or (user and about.st_uid != user) or about.st_mode & 0o022:
        raise InputError(
            f"{folder}: this is not a folder of your own, expected one that only you may write to; "
            "remove it, or name another place for temporary files (TMPDIR)."
        )
    return folder


@contextlib.contextmanager
def only_run(out):
    """Refuses a second run that would write what another one, still running, writes.

    Args:
        out: path of what is written: a folder, or a file without its ending.

    Raises:
        InputError: another run is at it.
    """
    name = hashlib.sha256(os.fspath(Path(out).resolve()).encode(errors="surrogateescape"))
    lock = FileLock(own_folder() / f"{name.hexdigest()[:32]}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"{out}: another run is writing there; wait until it is done, or give another --out."
        ) from None
    try:
        yield
    finally:
        lock.release()
