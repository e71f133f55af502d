"""Files that are made once and used again, such as those in the user's cache folder, with a seal beside them.

A seal is a manifest with the files' hashes. Files are used if they are as they were when they were sealed, belong to
this user, and nobody else can write to them or put others in their place; otherwise they are made again.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from pathlib import Path
from typing import Sequence

from insightface_mx.files import manifest
from insightface_mx.files.cache import cache_folder

_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600


def private_folder(*names: str) -> Path:
    """Return a folder in the user's cache folder that only this user can open; make it where there is none.

    Args:
        names: Of the folder, and of those that it is in.

    Raises:
        OSError: It cannot be made, or belongs to somebody else.
        RuntimeError: There is no home folder.
    """
    folder = cache_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    for path in (folder, *(folder.joinpath(*names[: i + 1]) for i in range(len(names)))):
        path.mkdir(_PRIVATE_FOLDER, exist_ok=True)
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "it is not this user's own folder", str(path))
        if stat.S_IMODE(status.st_mode) != _PRIVATE_FOLDER:
            os.chmod(path, _PRIVATE_FOLDER)
    return folder.joinpath(*names)


def seal(path: str, files: Sequence[str]) -> None:
    """Write a seal.

    Args:
        path: The seal.
        files: The files, in the seal's folder and already on disk; they become this user's alone.

    Raises:
        OSError: It cannot be written.
    """
    for file in files:
        os.chmod(file, _PRIVATE_FILE)
    manifest.write(path, files, {})
    os.chmod(path, _PRIVATE_FILE)


def is_intact(path: str, files: Sequence[str]) -> bool:
    """Return whether sealed files can be used; where there is a seal and they cannot, the log says why.

    Args:
        path: The seal.
        files: The files that it must name.
    """
    if not os.path.lexists(path):
        return False
    problem = next(filter(None, map(_problem, (path, *files))), "") or _difference(path, files)
    if problem:
        logging.warning("%s: made again", problem)
    return not problem


def discard(files: Sequence[str]) -> None:
    """Remove files, and links or pipes in their place. Raises OSError where a folder lies there."""
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            os.remove(file)


def _problem(path: str) -> str:
    try:
        status = os.lstat(path)
    except OSError as error:
        return f"{path}: {error.strerror}"
    is_own = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & _OTHERS
    return "" if is_own else f"{path}: not a file of this user that nobody else can change"


def _difference(path: str, files: Sequence[str]) -> str:
    try:
        names = manifest.read(path)["files"]
    except manifest.Damaged as error:
        return str(error)
    return "" if set(names) == set(map(os.path.basename, files)) else f"{path}: the seal of other files"
