"""Write files completely or not at all, and report errors of writing.

Every output of a command is written here. A file that is being written has a name of its own next to its place, which
nobody can guess, so that it never is a link that another user has laid there. An output that is itself a symbolic link
is replaced by the new file; what the link names stays as it is.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
import zipfile
from typing import Iterator, Mapping

import numpy as np

from insightface_mx.base.errors import UserError

# Regular expression of what stands behind the output's name; earlier versions had no random part.
TEMPORARY = r"\.tmp\d+(-[0-9a-f]{16})?"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, None)  # None: of a package that does not say


@contextlib.contextmanager
def atomic_path(path: str, durable: bool = True) -> Iterator[str]:
    """Give the path of a new, empty file next to `path`; when the block ends without an error, rename it.

    Args:
        path: The file to write. A reader sees the old file or the complete new one.
        durable: Wait until the file is on disk, so that this also holds after a crash of the machine.

    Raises:
        OSError: The file cannot be made, flushed or renamed, or something else than a file lies at `path`.
    """
    _check_kind(path)
    temporary = f"{path}.tmp{os.getpid()}-{secrets.token_hex(8)}"
    try:
        with _created(temporary):
            yield temporary
            if durable:
                _flush(temporary)
            os.replace(temporary, path)
        if durable:
            _flush(os.path.dirname(path) or ".")  # without this a crash may lose the new name
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def _check_kind(path: str) -> None:
    """Raise OSError if a folder, device or pipe is in the place of an output."""
    with contextlib.suppress(FileNotFoundError):
        mode = os.lstat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise OSError(errno.EEXIST, "there is a folder, a device or a pipe of this name", path)


@contextlib.contextmanager
def _created(path: str) -> Iterator[None]:
    """Make an empty file; while the block runs it is locked, so that `remove_leftovers` knows that it is in use."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: see remove_leftovers
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def remove_leftovers(folder: str, name: str) -> None:
    """Remove the files that killed processes had not yet renamed.

    Files in use stay, and so do all where the file system has no locks.

    Args:
        folder: Where to look; it need not exist.
        name: Regular expression of the names of the outputs.
    """
    pattern = re.compile(rf"(?:{name}){TEMPORARY}")
    names = os.listdir(folder) if os.path.isdir(folder) else []
    for path in (os.path.join(folder, entry) for entry in names if pattern.fullmatch(entry)):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.remove(path)
            finally:
                os.close(descriptor)


def _flush(path: str) -> None:
    """Wait until a file or a folder is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def report_write_errors(path: str) -> Iterator[None]:
    """Turn an OSError of the block into a UserError that names `path`.

    Before the block make the folder of `path`, and remove what killed processes left there of this file.
    """
    if "\0" in path:
        raise UserError(f"cannot save {path}: no path holds a NUL")
    folder, name = os.path.split(path)
    try:
        os.makedirs(folder or ".", exist_ok=True)
        remove_leftovers(folder or ".", re.escape(name))
        yield
    except OSError as error:
        obstacle = _no_folder_of(path)
        if obstacle:
            reason = f"{obstacle} is no folder; choose another --output or --prefix"
        else:
            question = " Is the disk full?" if error.errno in _FULL else ""
            reason = f"{error.strerror or error}; what was saved before is untouched.{question}"
        raise UserError(f"cannot save {path}: {reason}") from error


def _no_folder_of(path: str) -> str:
    """Return what is in the place of a folder that a file would be in; '' if there is no such thing."""
    folder = os.path.dirname(path)
    while folder and not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return "" if os.path.isdir(folder or ".") else folder


def save_text(path: str, text: str) -> None:
    """Write a text file, completely or not at all."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(text)


def save_npz(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a .npz file, completely or not at all: the bytes of np.savez, which fails in a second way on a full disk.

    Args:
        path: The file.
        arrays: Arrays by name; none of objects.
    """
    with atomic_path(path) as temporary, open(temporary, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)
