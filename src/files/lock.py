"""Let one process at a time write an output: a second one is told which process does.

The lock is a file next to the output, or in it where it is a folder, that holds who made it: host, process and time.
The lock of the system on that file (flock) ends with the process, so that what a killed one left is taken over. Where a
file system knows no such locks, the process is looked up instead. A file of that name that is not ours is locked, too,
but stays as it is.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import socket
import stat
import time
from typing import Any, ContextManager, Iterator

from insightface_mx.base.errors import UserError, printable
from insightface_mx.files.atomic import report_write_errors

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_NETWORK = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "fuse", "glusterfs", "lustre")  # file systems' names begin so
_LARGEST = 4096  # bytes of such a file
_BEGIN = b'{"host": '  # what such a file begins with


class OutputLock:
    """A lock on an output, to be used in a `with` block; the block's end removes it.

    Args:
        output: What is written, as the user knows it.
        path: The file of the lock; its folder exists.
    """

    def __init__(self, output: str, path: str) -> None:
        self._output, self._path = output, path

    def __enter__(self) -> OutputLock:
        """Take the lock.

        Raises:
            UserError: Another process has it, or may have it.
            OSError: The file cannot be written.
        """
        while True:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            try:
                if not stat.S_ISREG(os.fstat(self._file).st_mode):
                    raise OSError(errno.EEXIST, "it is no file", self._path)
                self._refuse_other_owner()
                if _is_file(self._path, self._file):
                    break
            except BaseException:
                os.close(self._file)
                raise
            os.close(self._file)  # its owner has removed it meanwhile
        self._is_own = _is_own(self._file)
        if self._is_own:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, json.dumps(_this_process()).encode(), 0)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            if self._is_own and _is_file(self._path, self._file):
                os.remove(self._path)
        os.close(self._file)

    def _refuse_other_owner(self) -> None:
        """Lock the file. Raises UserError if another process has it, or may have it."""
        has_locks = True
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._taken(_read(self._file)) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            has_locks = False
        if not has_locks and not _is_own(self._file):
            raise UserError(f"{self._path} was not made by this program: move it away, or choose another output")
        owner = _read(self._file)
        if not owner:
            return
        if owner.get("host") == socket.gethostname():
            if not has_locks and _lives(owner):
                raise self._taken(owner)
        elif not has_locks or _is_on_network(self._path):  # there the lock may hold for one machine alone
            raise UserError(
                f"{self._output} is being written by {_describe(owner)}, or that process was killed: if it was, "
                f"remove {self._path}"
            )

    def _taken(self, owner: dict[str, Any]) -> UserError:
        return UserError(f"{self._output} is being written by {_describe(owner)}: wait, or choose another output")


def lock_file(output: str) -> ContextManager[None]:
    """Let no other process write a file, or files that begin with a prefix, in the block: OUTPUT.lock tells them so.

    Raises:
        UserError: Another process writes it, or nobody can.
    """
    return _locked(output, f"{output}.lock")


def lock_folder(output: str) -> ContextManager[None]:
    """Let no other process write into a folder in the block.

    Raises:
        UserError: Another process writes into it, or nobody can.
    """
    return _locked(output, os.path.join(output, ".lock"))


@contextlib.contextmanager
def _locked(output: str, path: str) -> Iterator[None]:
    """Lock an output in the block; a folder that is made for this and stays empty is removed."""
    folder = os.path.dirname(path) or "."
    is_new = not os.path.isdir(folder)
    try:
        with contextlib.ExitStack() as stack:
            with report_write_errors(path):
                stack.enter_context(OutputLock(output, path))
            yield
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # it is not empty
                os.rmdir(folder)


def _is_file(path: str, descriptor: int) -> bool:
    """Return whether a path names an open file."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    return False


def _this_process() -> dict[str, Any]:
    process = os.getpid()
    return {"host": socket.gethostname(), "process": process, "began": _began(process), "time": time.strftime("%F %T")}


def _read(descriptor: int) -> dict[str, Any]:
    """Return who made a lock; nothing if that is not written, or not yet."""
    content = os.pread(descriptor, _LARGEST, 0)
    try:
        return json.loads(content) if content.startswith(_BEGIN) else {}
    except (ValueError, RecursionError):
        return {}


def _is_own(descriptor: int) -> bool:
    """Return whether a file is a lock, or what a crash left of one; others are the user's."""
    content = os.pread(descriptor, _LARGEST, 0).rstrip(b"\0")
    return content.startswith(_BEGIN) or _BEGIN.startswith(content)


def _describe(owner: dict[str, Any]) -> str:
    if not owner:
        return "another process"
    host, process, since = (printable(str(owner.get(key)), 100) for key in ("host", "process", "time"))
    return f"process {process} on {host} since {since}"


def _lives(owner: dict[str, Any]) -> bool:
    """Return whether the process that made a lock on this machine lives."""
    process = owner.get("process")
    return isinstance(process, int) and bool(_began(process)) and _began(process) == owner.get("began")


def _began(process: int) -> str:
    """Return when a process of this machine began, in ticks since the machine did; '' if there is none."""
    try:
        with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _is_on_network(path: str) -> bool:
    """Return whether a file lies on a network file system, as far as /proc tells."""
    place, kind = "", ""
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            fields = line.split()
            mount = re.sub(r"\\(\d{3})", lambda code: chr(int(code.group(1), 8)), fields[4])
            inside = os.path.realpath(path).startswith(os.path.join(mount, ""))
            if inside and len(mount) >= len(place):
                place, kind = mount, fields[fields.index("-") + 1]
    return kind.startswith(_NETWORK)
