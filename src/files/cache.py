"""Files that can be made again from others: stamps and hashes of the sources, cached arrays, the cache folder."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Callable, Mapping, Protocol, Sequence, TypeVar

import numpy as np

from insightface_mx.files.atomic import save_npz
from insightface_mx.files.regular_file import open_regular
from insightface_mx.files.safe_npz import BadArrays, read_npz

MIN_CACHED_BYTES = 1 << 18  # smaller arrays are made as quickly as they are read
_VERSION = 2
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


def file_stamp(path: str) -> tuple[int, int, int, int]:
    """Return numbers that change with a file: inode, size in bytes, times of change in ns of content and of inode.

    Content and size may stay as they are when a file is replaced by a copy of another (cp -p, rsync -t).

    Raises:
        OSError: There is no such file.
    """
    status = os.stat(path)
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def hash_file(digest: Digest, path: str | os.PathLike[str]) -> Digest:
    """Add a file's content to a hash, and return the hash. Raises OSError if the file cannot be read."""
    with open_regular(path) as file:
        for block in iter(lambda: file.read(_BLOCK), b""):
            digest.update(block)
    return digest


def cached(
    path: str,
    sources: Sequence[str],
    index: str,
    dtypes: Mapping[str, type[np.generic]],
    make: Callable[[], dict[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Return the arrays that make() returns, from the file `path` if it holds them.

    Args:
        path: A .npz file. It is used while the sources have the stamps that they had when it was written; otherwise it
            is written again, if the arrays are large. If it cannot be written, a log line says so.
        sources: Files that the arrays depend on.
        index: The one of them whose content is compared, too.
        dtypes: The arrays' names and types.
        make: Makes the arrays.
    """
    stamp = _stamp(sources, index) if os.path.lexists(path) else None
    arrays = None if stamp is None else _load(path, stamp, dtypes)
    if arrays is None:
        before = [file_stamp(source) for source in sources]
        arrays = make()
        if sum(array.nbytes for array in arrays.values()) >= MIN_CACHED_BYTES:
            stamp = np.append(_stamp(sources, index), _hash(arrays))
            if before == [file_stamp(source) for source in sources]:  # else it was made of changing files
                _save(path, {**arrays, "stamp": stamp})
    return arrays


def _stamp(sources: Sequence[str], index: str) -> np.ndarray:
    """Return the stamps of the sources and a hash of the index, an int64 array."""
    digest = hash_file(hashlib.sha256(), index).digest()
    stamps = np.array([file_stamp(source) for source in sources], np.uint64).ravel()  # inodes may have 64 bits
    return np.concatenate([[_VERSION], stamps.view(np.int64), np.frombuffer(digest, np.int64)])


def _load(path: str, stamp: np.ndarray, dtypes: Mapping[str, type[np.generic]]) -> dict[str, np.ndarray] | None:
    """Read the arrays; None if there are none with this stamp."""
    try:
        arrays = read_npz(path)
    except (OSError, BadArrays) as error:
        logging.warning("%s is damaged (%s) and is made again", path, error)
        return None
    stored = arrays.pop("stamp", np.empty(0))
    if not np.array_equal(stored[: len(stamp)], stamp):
        return None
    found = {name: array.dtype for name, array in arrays.items()}
    if found != dict(dtypes) or not np.array_equal(stored[len(stamp) :], _hash(arrays)):
        logging.warning("%s holds other arrays than it should and is made again", path)
        return None
    return arrays


def _hash(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return a hash of arrays in the order of their names, an int64 array."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape} {arrays[name].dtype.str} ".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return np.frombuffer(digest.digest(), np.int64)


def _save(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    try:
        save_npz(path, arrays)
    except OSError as error:
        logging.info("%s cannot be stored (%s): the next start will take as long", path, error.strerror)
