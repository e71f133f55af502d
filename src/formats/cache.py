"""Arrays that are slow to make from a large file, kept beside it in a .npz file."""

import logging
import os
import struct
import zipfile
from pathlib import Path

import numpy as np

from insightface_mx.formats.atomic import atomic_path

SMALLEST = 1 << 18  # bytes: less is made again as quickly as it is read
_VERSION = 1
# What numpy and zipfile raise for damaged files.
_DAMAGE = (
    OSError,
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,
    SyntaxError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
)


def cache_folder():
    """Folder of the built files."""
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # the XDG specification has relative paths ignored
    return (chosen if chosen.is_absolute() else Path("~/.cache").expanduser()) / "insightface-mx"


def cached(path, sources, make):
    """The dict of arrays that make() returns, from the file `path` where that holds them.

    It is believed as long as the files `sources` have the sizes and times of change that they had when it was written,
    and written anew otherwise. Where the folder cannot be written, a log line says so.
    """
    stamp = _stamp(sources)
    arrays = _load(path, stamp)
    if arrays is None:
        arrays = make()
        if sum(array.nbytes for array in arrays.values()) >= SMALLEST:
            _save(path, {**arrays, "stamp": stamp})
    return arrays


def _stamp(sources):
    states = [os.stat(source) for source in sources]
    return np.array([_VERSION, *(number for state in states for number in (state.st_size, state.st_mtime_ns))])


def _load(path, stamp):
    if not os.path.exists(path):
        return None
    try:
        with open(path, "rb") as file:  # np.load would leave it open where it fails
            content = np.load(file, allow_pickle=False)
            arrays = {name: content[name] for name in content.files}
    except _DAMAGE as error:
        logging.warning("%s is damaged (%s) and is made anew", path, error)
        return None
    return arrays if np.array_equal(arrays.pop("stamp", None), stamp) else None


def _save(path, arrays):
    try:
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
    except OSError as error:
        logging.info("%s cannot be kept (%s): the next start will take as long", path, error.strerror)
