"""Compile the C++ operator of prelu_op.cc once on a machine, and load it once in a process.

Compiled files are in the user's cache folder, insightface-mx in $XDG_CACHE_HOME or ~/.cache. Their names follow from
the source and the CPU, because machines of several kinds may share a home folder.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import platform
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Iterable

from insightface_mx.base.compat import mx
from insightface_mx.formats.cache import cache_folder

FLAGS = ("-std=c++11", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared")
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
        OSError: There is no compiler, or the folder cannot be written.
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
    """Return the path of the library in `folder`; compile it with $CXX or g++ if it is not there yet.

    Args:
        folder: The cache folder.
        cpu: Text about the instructions of the CPU; None: those of this machine.

    Raises:
        OSError: There is no compiler, or the folder cannot be written.
        subprocess.CalledProcessError: Compiling fails.
    """
    include = Path(mx.libinfo.find_include_path())
    sources = (_SOURCE, include.parent / "src" / "lib_api.cc")
    key = _key((*sources, include / "mxnet" / "lib_api.h"), _cpu_flags() if cpu is None else cpu)
    library = folder / f"prelu-{key}.so"
    if not library.exists():
        _compile(sources, include, library)
    return library


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


def _compile(sources: Iterable[Path], include: Path, library: Path) -> None:
    logging.info("compiling %s, once for this machine: %s", _SOURCE.name, library)
    library.parent.mkdir(parents=True, exist_ok=True)
    # written under another name and renamed: a process that starts meanwhile finds a complete file or none
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        unfinished = Path(folder) / library.name
        compiler = shlex.split(os.environ.get("CXX", "g++"))
        command = [*compiler, *FLAGS, f"-I{include}", *map(str, sources), "-o", str(unfinished)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        unfinished.replace(library)
