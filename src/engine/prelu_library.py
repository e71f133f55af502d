"""Compile the C++ operator of prelu_op.cc once on a machine, and load it once in a process.

Compiled files are in the user's cache folder, insightface-mx in $XDG_CACHE_HOME or ~/.cache. Their names follow from
the source and the CPU, because machines of several kinds may share a home folder. A library runs as soon as it is
loaded, and a damaged one ends the process: only one that nobody else can have written, and whose hash is that which
is stored beside it, is loaded. Any other is compiled again.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import logging
import os
import platform
import shlex
import signal
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Iterable

from insightface_mx.base.compat import mx
from insightface_mx.files.atomic import atomic_path
from insightface_mx.files.cache import cache_folder
from insightface_mx.files.regular_file import open_regular

FLAGS = ("-std=c++11", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared")
_HASH_LENGTH = 64  # hexadecimal digits of SHA-256
_SOURCE = Path(__file__).with_name("prelu_op.cc")


@functools.lru_cache(maxsize=None)
def load_error() -> str:
    """Load the operator _insightface_prelu at the first call, and return why that failed; '' if it did not."""
    try:
        load(cache_folder())
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        return str(error)
    return ""


def load(folder: Path) -> None:
    """Make the operator _insightface_prelu known to MXNet.

    Args:
        folder: Where the compiled file is, or will be.

    Raises:
        OSError: There is no compiler, or the folder cannot be written, or others may write in it.
        RuntimeError: The source cannot be compiled or its result not loaded, or MXNet's header files are missing.
    """
    try:
        mx.library.load(str(build(folder)), verbose=False)
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "error" in line] or [error.stderr.strip()]
        raise RuntimeError(f"{error.cmd[0]} cannot compile {_SOURCE.name}: {lines[0]}") from error
    except mx.MXNetError as error:
        reason = str(error).strip().splitlines()[-1]
        raise RuntimeError(f"MXNet cannot load the compiled {_SOURCE.name}: {reason}") from error


def build(folder: Path, cpu: str | None = None) -> Path:
    """Return the path of the library in `folder`; compile it with $CXX or g++ if it is not there as it was written.

    Args:
        folder: The cache folder.
        cpu: Text about the instructions of the CPU; None: those of this machine.

    Raises:
        OSError: There is no compiler, or the folder cannot be written, or others may write in it.
        subprocess.CalledProcessError: Compiling fails.
    """
    include = Path(mx.libinfo.find_include_path())
    sources = (_SOURCE, include.parent / "src" / "lib_api.cc")
    key = _key((*sources, include / "mxnet" / "lib_api.h"), _cpu_flags() if cpu is None else cpu)
    library = folder / f"prelu-{key}.so"
    _make_private(folder)
    if not _is_as_written(library):
        _compile(sources, include, library)
    return library


def _make_private(folder: Path) -> None:
    """Make a folder where nobody else may write. Raises OSError if it is another user's, or others may write in it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid == os.geteuid() and stat.S_IMODE(folder.stat().st_mode) != 0o700:
        folder.chmod(0o700)
    if not (_is_private(folder.stat()) and folder.lstat().st_uid in _owners()):
        raise OSError(errno.EPERM, "others may write in this folder, so no compiled file is taken from it", str(folder))


def _is_private(status: os.stat_result) -> bool:
    """Return whether only this user, or the administrator, can have written a file or in a folder."""
    return status.st_uid in _owners() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _owners() -> tuple[int, int]:
    return os.geteuid(), 0


def _is_as_written(library: Path) -> bool:
    """Return whether a library is there, is this user's, and is what `_compile` wrote."""
    if not os.path.lexists(library):
        return False
    try:
        with open_regular(library) as file, open_regular(_hash_path(library)) as hash_file:
            is_private = all(_is_private(os.fstat(opened.fileno())) for opened in (file, hash_file))
            if is_private and hash_file.read(_HASH_LENGTH + 1).decode("ascii") == _hash(file.read(), library.name):
                return True
    except (OSError, UnicodeDecodeError) as error:
        logging.warning("%s cannot be taken (%s) and is compiled again", library, error)
        return False
    logging.warning("%s is damaged, or others may have written it, and is compiled again", library)
    return False


def _hash_path(library: Path) -> Path:
    return library.with_suffix(".sha256")


def _hash(content: bytes, name: str) -> str:
    """Return the hash of a library's content and name, which follows from its source."""
    return hashlib.sha256(name.encode() + b"\0" + content).hexdigest()


def _key(files: Iterable[Path], cpu: str) -> str:
    """Hash everything that changes the binary except the compiler, because a cached binary needs no compiler."""
    parts = [mx.__version__, " ".join(FLAGS), platform.machine(), cpu, *(path.read_text() for path in files)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _cpu_flags() -> str:
    """Return a line about the instructions that -march=native may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _run_with_children(command: list[str]) -> None:
    """Run a command; where a signal ends the wait for it, end the command and the processes that it started."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
        try:
            output, errors = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()  # after Ctrl-C, Popen does not
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output, errors)


def _compile(sources: Iterable[Path], include: Path, library: Path) -> None:
    logging.info("compiling %s, once for this machine: %s", _SOURCE.name, library)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        compiled = Path(folder) / library.name
        compiler = shlex.split(os.environ.get("CXX", "g++"))
        command = [*compiler, *FLAGS, f"-I{include}", *map(str, sources), "-o", str(compiled)]
        _run_with_children(command)
        content = compiled.read_bytes()
    for path, stored in ((_hash_path(library), _hash(content, library.name).encode()), (library, content)):
        if os.path.lexists(path) and not (path.is_file() or path.is_symlink()):
            path.unlink()  # a pipe, for example
        with atomic_path(str(path)) as temporary:
            Path(temporary).write_bytes(stored)
            os.chmod(temporary, 0o600)
