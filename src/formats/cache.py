"""Files that can be made again from others: stamps and hashes of the sources, cached arrays, the cache folder."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Callable, Mapping, Protocol, Sequence, TypeVar

import numpy as np

from insightface_mx.formats.atomic import save_npz
from insightface_mx.formats.safe_pickle import DAMAGE

MIN_CACHED_BYTES = 1 << 18  # smaller arrays are made as quickly as they are read
_VERSION = 1
_BLOCK = 1 << 20  # bytes that are read at a time


class _Updatable(Protocol):
    def update(self, data: bytes, /) -> None: ...


Digest = TypeVar("Digest", bound=_Updatable)  # a hash of hashlib


def cache_folder() -> Path:
    """Return the user's folder for files that this package makes once and uses again.

    Raises:
        RuntimeError: There is no home folder.
    """
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # the XDG specification ignores relative paths
    return (chosen if chosen.is_absolute() else Path("~/.cache").expanduser()) / "insightface-mx"


def file_stamp(path: str) -> tuple[int, int]:
    """Return a file's size in bytes and time of change in nanoseconds. Raises OSError if there is no such file."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def hash_file(digest: Digest, path: str | os.PathLike[str]) -> Digest:
    """Add a file's content to a hash, and return the hash. Raises OSError if the file cannot be read."""
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(_BLOCK), b""):
            digest.update(block)
    return digest


def cached(path: str, sources: Sequence[str], make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the arrays that make() returns, from the file `path` if it holds them.

    Args:
        path: A .npz file. It is used while the sources have the stamps that they had when it was written; otherwise it
            is written again, if the arrays are large. If it cannot be written, a log line says so.
        sources: Files that the arrays depend on.
        make: Makes the arrays.
    """
    stamp = np.array([_VERSION, *(value for source in sources for value in file_stamp(source))])
    arrays = _load(path, stamp)
    if arrays is None:
        arrays = make()
        if sum(array.nbytes for array in arrays.values()) >= MIN_CACHED_BYTES:
            _save(path, {**arrays, "stamp": stamp})
    return arrays


def _load(path: str, stamp: np.ndarray) -> dict[str, np.ndarray] | None:
    """Read the arrays; None if there are none with this stamp."""
    if not os.path.exists(path):
        return None
    try:
        with open(path, "rb") as file:  # np.load does not close it when it fails
            content = np.load(file, allow_pickle=False)
            arrays = {name: content[name] for name in content.files}
    except DAMAGE as error:
        logging.warning("%s is damaged (%s) and is made again", path, error)
        return None
    return arrays if np.array_equal(arrays.pop("stamp", np.empty(0)), stamp) else None


def _save(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    try:
        save_npz(path, arrays)
    except OSError as error:
        logging.info("%s cannot be stored (%s): the next start will take as long", path, error.strerror)
