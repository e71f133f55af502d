"""Open files from strangers: a pipe has no end, and a device none or one that nobody may read."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO, cast

_KINDS = {
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file to read its bytes, whatever lies at `path`: it returns at once. Links are followed.

    Raises:
        OSError: As of `open`; or a folder, pipe, device or socket lies there, or the path is none, for example since it
            holds a NUL, which `strerror` says.
    """
    try:
        return cast(BinaryIO, open(path, "rb", opener=_open))
    except ValueError as error:
        raise OSError(errno.EINVAL, f"no file can have this name ({error})", os.fspath(path)) from error


def _open(path: str, flags: int) -> int:
    _check_kind(os.stat(path).st_mode, path)  # before it is opened, which may move a tape or end a wait
    descriptor = os.open(path, flags | os.O_NONBLOCK)  # a pipe that has come there since does not wait for a writer
    try:
        _check_kind(os.fstat(descriptor).st_mode, path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _check_kind(mode: int, path: str) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is a {_KINDS.get(stat.S_IFMT(mode), 'special file')}, not a file", path)
