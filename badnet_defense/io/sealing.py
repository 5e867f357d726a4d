"""A user's seal: tells what their own runs have written from what somebody else has put there.

A verdict, a finished unit of a scan or a repair is taken up again only if it bears the seal of this
user: an HMAC-SHA256 (RFC 2104) by a key that only they can read. Anything else is made anew.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import stat
from functools import cache
from pathlib import Path

from badnet_defense.errors import InputError
from badnet_defense.io.files import is_own, user_temp_dir

_log = logging.getLogger("badnet_defense")
SIZE = hashlib.sha256().digest_size
"""Bytes of a seal, and of the key."""


def seal(purpose: str, content: bytes) -> bytes | None:
    """The seal of some bytes, `SIZE` bytes; None where this user can keep no key.

    Args:
        purpose: text; what is sealed for one purpose has no seal for another.
        content: bytes.
    """
    key = _key()
    if key is None:
        return None
    return hmac.digest(key, hashlib.sha256(purpose.encode()).digest() + content, "sha256")


def is_sealed(purpose: str, content: bytes, given: bytes) -> bool:
    """True where `given` (bytes) is this user's seal of some bytes for a purpose."""
    right = seal(purpose, content)
    return right is not None and hmac.compare_digest(right, given)


def _key() -> bytes | None:
    return _key_in(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"))


@cache
def _key_in(state: str) -> bytes | None:
    """The key that is kept in a folder of the user's, or else beside their temporary files."""
    wrong = []
    for place in (lambda: Path(state) / "badnet_defense", user_temp_dir):
        try:
            folder = place()
            if not folder.is_absolute():  # no home is known
                continue
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if is_own(folder.lstat(), stat.S_ISDIR):
                return _kept(folder / "key")
            wrong.append(f"{folder}: others may write to it")
        except (InputError, OSError) as error:
            wrong.append(str(error))
    _log.warning(
        "no place to keep a key of yours (%s): finished work will be done anew by the next run; "
        "name a folder with XDG_STATE_HOME.",
        "; ".join(wrong),
    )
    return None


def _kept(path: Path) -> bytes:
    """The key in a file, which is made if it is not there, or is none."""
    for _ in range(2):
        key = _read(path)
        if key is not None:
            return key
        _make(path)
    raise InputError(f"{path}: no key can be kept there.")


def _read(path: Path) -> bytes | None:
    """The key in a file that nobody else can read; None where there is none."""
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError:  # a link
        number = None
    if number is not None:
        with open(number, "rb") as file:
            about, key = os.fstat(number), file.read(SIZE + 1)
        private = is_own(about, stat.S_ISREG) and not about.st_mode & 0o077
        if private and len(key) == SIZE:
            return key
    _log.warning("%s: this was no key that only you can read; it is made anew.", path)
    path.unlink()
    return None


def _make(path: Path) -> None:
    """Writes a new key; where another process was faster, theirs stays."""
    new = path.with_name(f".key.{secrets.token_hex(8)}")
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(SIZE))
        try:
            os.link(new, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)
