"""The C++ operator of prelu_op.cc: compiled once for a machine, loaded once for a process.

Built files stay in the user's cache folder, insightface-mx in $XDG_CACHE_HOME or ~/.cache, under names that say what
they were made from and for which processor: a home folder may be shared by machines of several kinds.
"""

import functools
import hashlib
import logging
import os
import platform
import shlex
import subprocess
import tempfile
from pathlib import Path

from insightface_mx.base.compat import mx
from insightface_mx.formats.cache import cache_folder

FLAGS = ("-std=c++11", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared")
_SOURCE = Path(__file__).with_name("prelu_op.cc")


@functools.lru_cache(maxsize=None)
def problem():
    """Make the operator _insightface_prelu known to MXNet: '' where that worked, else the reason why it did not."""
    try:
        mx.library.load(str(build(cache_folder())), verbose=False)
    except subprocess.CalledProcessError as error:
        return f"{error.cmd[0]} cannot compile {_SOURCE.name}: {_first_error(error.stderr)}"
    except mx.MXNetError as error:
        return f"MXNet cannot load what {_SOURCE.name} compiles to: {str(error).strip().splitlines()[-1]}"
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder, no header files
        return str(error)
    return ""


def build(folder):
    """Path of the library in `folder`, compiled by $CXX or g++ if it is not there yet.

    Raises OSError where there is no compiler or the folder cannot be written, subprocess.CalledProcessError where
    compiling fails.
    """
    include = Path(mx.libinfo.find_include_path())
    sources = (_SOURCE, include.parent / "src" / "lib_api.cc")
    library = folder / f"prelu-{_key((*sources, include / 'mxnet' / 'lib_api.h'))}.so"
    if not library.exists():
        _compile(sources, include, library)
    return library


def _key(files):
    """What a built file depends on, the compiler apart: whoever has the file needs none."""
    parts = [mx.__version__, " ".join(FLAGS), platform.machine(), _processor(), *(path.read_text() for path in files)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _processor():
    """The instructions that -march=native may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _compile(sources, include, library):
    logging.info("compiling %s, once for this machine: %s", _SOURCE.name, library)
    library.parent.mkdir(parents=True, exist_ok=True)
    # made under another name and renamed: a process starting meanwhile finds all of it or nothing
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        unfinished = Path(folder) / library.name
        compiler = shlex.split(os.environ.get("CXX", "g++"))
        command = [*compiler, *FLAGS, f"-I{include}", *map(str, sources), "-o", str(unfinished)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        unfinished.replace(library)


def _first_error(text):
    return next((line for line in text.splitlines() if "error" in line), text.strip())
