"""Files as every part of the project opens, identifies and writes them."""

from __future__ import annotations

import atexit
import contextlib
import errno
import glob
import hashlib
import io
import os
import re
import secrets
import shutil
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
from filelock import FileLock, Timeout

from badnet_defense.errors import InputError, LinkOutError, TooLargeError
from badnet_defense.io.listing import read_files

FREE_SIZE = 64 * 2**20
"""Bytes that a file may claim whatever of them is stored: too few to harm."""
SPARSE = 100
"""Claimed to stored bytes of a file. File systems that compress reach ten with real data."""
CANNOT_WRITE_ERRNOS = {
    errno.ENOSPC,
    errno.EROFS,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
}
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_MAX_STEM_LENGTH = 40
_RUN, _COMMON = "badnet_defense.run.", "BADNET_DEFENSE_COMMON_TMPDIR"
_of_this_thread = threading.local()


def require_file(path: str | os.PathLike[str], expected: str) -> Path:
    """`path` as a `Path`, if it is a file; `expected` says what should be there, for the message.

    Raises:
        InputError: nothing is there, or a folder is, or it may not be read.
        TooLargeError: it claims far more bytes than lie on the disk.

    Examples:
        >>> from badnet_defense.io import require_file
        >>> require_file("no.h5", "a net")
        Traceback (most recent call last):
        ...
        badnet_defense.errors.InputError: no.h5: no such file, expected a net; check the path.
    """
    if os.path.isdir(path):
        raise InputError(f"{path}: this is a folder, expected {expected}.")
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file, expected {expected}; check the path.")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: may not be read, expected {expected}; check its permissions.")
    claimed, stored = os.stat(path).st_size, stored_size(path)
    if claimed > FREE_SIZE and claimed > SPARSE * stored:
        raise TooLargeError(
            f"{path}: it claims {claimed:,} bytes, of which {stored:,} lie on the disk, expected "
            f"{expected}; a copy of it (cp --sparse=never) would show what it is."
        )
    return Path(path)


def stored_size(path: str | os.PathLike[str]) -> int:
    """Bytes of a file as far as they lie on the disk: a sparse file claims more."""
    about = os.stat(path)
    blocks = 512 * getattr(about, "st_blocks", 0)
    if blocks or not about.st_size:
        return min(about.st_size, blocks)
    with open(path, "rb") as file:  # some file systems count no blocks
        try:
            os.lseek(file.fileno(), 0, os.SEEK_DATA)
        except (OSError, AttributeError) as error:
            if getattr(error, "errno", None) == errno.ENXIO:  # nothing but a hole
                return 0
    return about.st_size


def file_sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, 64 hex digits; raises `InputError` where there is no file.

    Examples:
        >>> import pathlib, tempfile
        >>> from badnet_defense.io import file_sha256
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "a.txt")
        ...     _ = path.write_bytes(b"abc")
        ...     file_sha256(path)[:16]
        'ba7816bf8f01cfea'
    """
    with open(require_file(path, "a file"), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def data_sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a data set: of a file's bytes, or of a folder's image files.

    A folder's digest is that of the lines "<SHA-256>  <path below the folder>", sorted by path,
    which is what `sha256sum` prints for the images; what is not read plays no part.

    Examples:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> from badnet_defense.io import data_sha256
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for label in ("0", "3"):
        ...         pathlib.Path(folder, label).mkdir()
        ...         Image.new("RGB", (4, 6)).save(f"{folder}/{label}/a.png")
        ...     len(data_sha256(folder))
        64
    """
    path = Path(path)
    if not path.is_dir():
        return file_sha256(path)
    check_links(path)
    names = sorted(found.relative_to(path).as_posix() for found in read_files(path))
    lines = [f"{file_sha256(path / name)}  {name}\n" for name in names]
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


@contextlib.contextmanager
def unchanged(path: str | os.PathLike[str]) -> Iterator[None]:
    """Refuses a file, or a folder's images, that were changed while the body read them.

    Raises:
        InputError: one was written, replaced, added or removed meanwhile.
    """
    before = _state(path)
    yield
    if _state(path) != before:
        raise InputError(f"{path}: it was changed while it was read; wait until it is whole.")


def _state(path: str | os.PathLike[str]) -> list[tuple[Any, ...]]:
    """What the system says of a file, or of a folder's images, that every change changes."""
    path = Path(path)
    state = []
    for found in read_files(path) if path.is_dir() else [path]:
        with contextlib.suppress(OSError):  # what is not there is refused by its reader
            about = found.stat()
            state.append((found, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns))
    return state


def check_links(folder: str | os.PathLike[str]) -> None:
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
                f"{found}: this is a link out of {folder}, expected the images themselves; copy "
                "them there."
            )


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path beside `path`, renamed to it on success and removed on failure.

    So an interrupted run never leaves half a file, and a reader sees the old file or the new one.
    The folder is made if need be. The temporary name keeps the suffix, since some writers choose
    the format by it; nobody can foresee it, and the empty file is there already, so that a writer
    that opens it by its path never follows a link that somebody has put there.

    Raises:
        InputError: `path` is a folder, or cannot be written.

    Examples:
        >>> import os, tempfile
        >>> from badnet_defense.io import atomic_write
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_write(f"{folder}/new/table.json") as partial:
        ...         _ = partial.write_text("{}")
        ...     os.listdir(f"{folder}/new")
        ['table.json']
    """
    path = _writable_path(path)
    _remove_stale_partials(path)
    partial = path.with_name(
        f"{_partial_prefix(path)}{os.getpid()}.{secrets.token_hex(8)}{_partial_suffix(path)}"
    )
    together = getattr(_of_this_thread, "together", None)
    done = False
    try:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o666))
        yield partial
        if together is None:
            os.replace(partial, path)
        else:
            together.append((partial, path))
        done = True
    except OSError as error:
        places = {"None", str(path), str(partial), str(path.parent)}
        if error.errno not in CANNOT_WRITE_ERRNOS or str(error.filename) not in places:
            raise
        raise _cannot_write(path, error) from error
    finally:
        if not done or together is None:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


@contextlib.contextmanager
def all_or_none() -> Iterator[None]:
    """Lets all that `atomic_write` writes inside appear at the end, or nothing of it.

    For files that only belong together: on a full disk none of them is left. They appear in the
    order in which they were written. Blocks may be nested: the outermost counts.

    Raises:
        InputError: a file could not be put in its place.
    """
    if getattr(_of_this_thread, "together", None) is not None:
        yield
        return
    waiting: list[tuple[Path, Path]] = []
    _of_this_thread.together = waiting
    try:
        yield
        for partial, path in waiting:
            try:
                os.replace(partial, path)
            except OSError as error:
                raise _cannot_write(path, error) from error
    finally:
        _of_this_thread.together = None
        for partial, _ in waiting:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def _writable_path(path: str | os.PathLike[str]) -> Path:
    """`path` as a `Path`, whose folder is there, made if need be.

    Raises:
        InputError: `path` is a folder, its folder cannot be made, or somebody else's link is on the
            way there.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: this is a folder, expected the name of a file to write.")
    _check_path_links(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written, since {path.parent} is no folder and cannot be made one "
            f"({error.strerror})."
        ) from error
    return path


def check_writable(
    *results: str | os.PathLike[str] | None, inputs: Iterable[str | os.PathLike[str] | None] = ()
) -> None:
    """Refuses results that could not be written, before the work that makes them; makes nothing.

    Args:
        results: paths of files to be written; None is passed over.
        inputs: paths of files that are read and must not be overwritten; None is passed over.

    Raises:
        InputError: a result is a folder, cannot be written, or would overwrite an input.
    """
    kept = {Path(one).resolve(): one for one in inputs if one is not None}
    for path in (Path(one) for one in results if one is not None):
        if path.is_dir():
            raise InputError(f"{path}: this is a folder, expected the name of a file to write.")
        if path.resolve() in kept:
            raise InputError(f"{path}: this would overwrite an input; name another file.")
        _check_path_links(path.parent)
        folder = next(one for one in (path.parent, *path.parent.parents) if os.path.lexists(one))
        if not folder.is_dir():
            raise InputError(
                f"{path}: cannot be written, since {folder} is no folder; name another place."
            )
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(
                f"{path}: cannot be written, since nothing may be written into {folder}; name "
                "another place."
            )


def _check_path_links(folder: Path) -> None:
    """Refuses a way to a folder that somebody else's link leads elsewhere, as Linux does in /tmp.

    A link is followed where it belongs to this user, to root, or to whom the folder with it does.
    """
    user = os.getuid() if hasattr(os, "getuid") else None
    folder = Path(os.path.abspath(folder))
    for one in (folder, *folder.parents):
        try:
            link = one.lstat()
            whose = {0, user, one.parent.stat().st_uid}
        except OSError:  # not there yet
            continue
        if user is not None and stat.S_ISLNK(link.st_mode) and link.st_uid not in whose:
            raise InputError(
                f"{one}: this is a link of another user's, expected a folder to write to; name "
                "another place."
            )


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: cannot be written ({error.strerror}), nothing half-written is left; make room or "
        "name another place."
    )


def read_plain(path: str | os.PathLike[str], most: int) -> bytes:
    """The bytes of a result that this project wrote, which somebody may have put another in place.

    Neither a link is followed nor is waited for what is no file.

    Args:
        path: of the result.
        most: bytes that it may have.

    Raises:
        InputError: it is not there, is no plain file, may not be read or is larger.
    """
    try:
        number = os.open(path, os.O_RDONLY | _NO_LINK | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(f"{path}: this is a link, expected the result itself.") from None
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    with open(number, "rb") as file:
        about = os.fstat(number)
        if not stat.S_ISREG(about.st_mode):
            raise InputError(f"{path}: this is no plain file, expected a result.")
        content = file.read(most + 1) if about.st_size <= most else None
    if content is None or len(content) > most:
        raise InputError(f"{path}: it is larger than {most >> 20} MB, as no such result is.")
    return content


@contextlib.contextmanager
def new_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """An open `h5py.File` that becomes the file `path` once it is whole.

    It is made in memory: on a full disk h5py could neither go on nor close a file cleanly.

    Raises:
        InputError: as `atomic_write`.
    """
    with atomic_write(path) as partial, io.BytesIO() as content:
        with h5py.File(content, "w") as file:
            yield file
        with open(partial, "wb") as target:
            target.write(content.getbuffer())


def _partial_prefix(path: Path) -> str:
    """Of the temporary names of a file; cut, since a name has an end."""
    return f".{path.stem[:_MAX_STEM_LENGTH]}."


def _partial_suffix(path: Path) -> str:
    return f".partial{path.suffix}"


def _remove_stale_partials(path: Path) -> None:
    """Removes what runs that were killed have left of this file; a link, but not where it leads."""
    first, last = _partial_prefix(path), _partial_suffix(path)
    for left in path.parent.glob(f"{glob.escape(first)}*{glob.escape(last)}"):
        number = left.name[len(first) :].split(".")[0]
        if number.isascii() and number.isdecimal() and len(number) < 10 and not alive(int(number)):
            with contextlib.suppress(OSError):
                left.unlink()


def alive(number: int) -> bool:
    """True where a process of that number is running."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def own_temporary_files() -> Iterator[Path]:
    """Gives all temporary files a folder of this run's, removed when this process ends.

    TensorFlow and Keras leave files behind, in worker processes, too, and when they are stopped.
    What runs that were killed have left is removed by the next.
    """
    common = _common_temporary()
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:20]
    start = f"{_RUN}{host}."
    for left in common.glob(f"{start}*"):
        number = left.name.removeprefix(start).split(".")[0]
        with contextlib.suppress(OSError, ValueError):
            if is_own(left.lstat(), stat.S_ISDIR) and not alive(int(number)):
                shutil.rmtree(left, ignore_errors=True)
    # Ray finds a cluster by where it keeps its own files, and its sockets need short names.
    asked = {_COMMON: str(common), "RAY_TMPDIR": os.environ.get("RAY_TMPDIR", str(common))}
    before = {name: os.environ.get(name) for name in (*asked, "TMPDIR")}
    cached = tempfile.tempdir
    folder = tempfile.mkdtemp(prefix=f"{start}{os.getpid()}.", dir=common)
    # Not earlier: what others remove at the end, such as Matplotlib its cache, must still be there.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ.update(asked, TMPDIR=folder)
    tempfile.tempdir = folder
    try:
        yield Path(folder)
    finally:
        tempfile.tempdir = cached
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _common_temporary() -> Path:
    """The folder for temporary files that all runs have in common."""
    return Path(os.environ.get(_COMMON) or tempfile.gettempdir())


def user_temp_dir() -> Path:
    """A folder for temporary files that only this user may enter, the same for all of their runs.

    It lies in the folder for temporary files; where somebody else has taken its name there, in the
    user's own folders. So nobody can keep others from working.

    Raises:
        InputError: no such folder can be had.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    wrong = []
    for folder in _own_places(user):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if is_own(folder.lstat(), stat.S_ISDIR):
                return folder
            wrong.append(str(folder))
        except OSError as error:
            wrong.append(f"{folder} ({error.strerror})")
    raise InputError(
        f"no folder of your own for temporary files: not {', '.join(wrong)}; expected one that "
        "only you may write to; name a place with TMPDIR."
    )


def _own_places(user: int) -> Iterator[Path]:
    """Where `user_temp_dir` may be, the first choice first."""
    yield _common_temporary() / f"badnet_defense.{user}"
    for name, default in (("XDG_RUNTIME_DIR", None), ("XDG_CACHE_HOME", "~/.cache")):
        place = os.environ.get(name) or (default and os.path.expanduser(default))
        if place and os.path.isabs(place):
            yield Path(place) / f"badnet_defense.{user}"


def is_own(about: os.stat_result, kind: Callable[[int], bool]) -> bool:
    """True where what `lstat` or `fstat` tells is of that kind (`stat.S_ISDIR`, ..), belongs to
    this user, root or not, and nobody else may write to it.
    """
    user = os.getuid() if hasattr(os, "getuid") else about.st_uid
    return kind(about.st_mode) and about.st_uid == user and not about.st_mode & 0o022


@contextlib.contextmanager
def exclusive(out: str | os.PathLike[str]) -> Iterator[None]:
    """Refuses a second run that would write what another one, still running, writes.

    Args:
        out: path of what is written: a folder, or a file without its ending.

    Raises:
        InputError: another run is at it.
    """
    name = hashlib.sha256(os.fspath(Path(out).resolve()).encode(errors="surrogateescape"))
    lock = FileLock(user_temp_dir() / f"{name.hexdigest()[:32]}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"{out}: another run is writing there; wait until it is done, or name another place."
        ) from None
    try:
        yield
    finally:
        lock.release()
