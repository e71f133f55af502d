"""Results of a long command, stored chunk by chunk, so that a stopped run continues where it was.

A chunk store is a folder with a file `settings`, the mark, which names the run, and NNNNNN.npz for every finished
chunk. Only these files are ever removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
from typing import Mapping

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.files.atomic import TEMPORARY, atomic_path, remove_leftovers, save_npz
from insightface_mx.files.regular_file import open_regular
from insightface_mx.files.safe_npz import BadArrays, read_npz

_MARK = "insightface-mx chunks\n"  # what `settings` begins with: a folder without it is not ours
_OWN = r"settings|\d{6,}\.npz"
_REMEDY = "a run that continues makes it again"
_CHECKSUM = "checksum"  # name of an array that every chunk has besides its own


class DamagedChunk(UserError):
    """A stored chunk is not what was saved: the next run makes it again."""


class ChunkStore:
    """A folder of chunks that belongs to one run: to the same data, model and options.

        store = ChunkStore(f"{output}.partial", settings)
        if store.of_another_run():
            store.remove()  # or refuse
        store.begin()
        for index in store.missing(chunks):
            store.save(index, compute(index))

    It can be pickled, so that worker processes save chunks themselves.

    Args:
        folder: The folder, which need not exist yet.
        settings: Text that differs for runs with different results; a hash of it will do.
    """

    def __init__(self, folder: str, settings: str) -> None:
        self.folder = folder
        self._settings = f"{_MARK}{settings}".encode()
        self._path_settings = os.path.join(folder, "settings")

    def of_another_run(self) -> bool:
        """Return whether the folder holds chunks of other settings. UserError: see `refuse_foreign`."""
        self.refuse_foreign()
        return self._stored_settings() not in (None, self._settings)

    def refuse_foreign(self) -> None:
        """Raise UserError if the folder holds files but not our mark: it is the user's own."""
        if os.path.isdir(self.folder):
            others = [name for name in os.listdir(self.folder) if not re.fullmatch(f"settings{TEMPORARY}", name)]
        else:
            others = [self.folder] if os.path.lexists(self.folder) else []
        stored = self._stored_settings() if "settings" in others else None
        if others and not (stored or b"").startswith(_MARK.encode()):
            raise UserError(f"{self.folder} was not made by this command: move it away, or choose another output")

    def begin(self) -> None:
        """Make the folder where it does not exist and store the settings in it. UserError: see `refuse_foreign`."""
        self.refuse_foreign()
        os.makedirs(self.folder, exist_ok=True)
        remove_leftovers(self.folder, _OWN)
        with atomic_path(self._path_settings) as temporary, open(temporary, "wb") as file:
            file.write(self._settings)

    def save(self, index: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a chunk, completely or not at all."""
        save_npz(self._path(index), {**arrays, _CHECKSUM: self._checksum(index, arrays)})

    def load(self, index: int) -> dict[str, np.ndarray]:
        """Read the arrays of a chunk.

        Raises:
            DamagedChunk: The file is not what was saved.
        """
        try:
            arrays = read_npz(self._path(index))
        except (OSError, BadArrays) as error:
            raise DamagedChunk(f"{self._path(index)} cannot be read ({error}); {_REMEDY}") from error
        if not np.array_equal(arrays.pop(_CHECKSUM, np.empty(0)), self._checksum(index, arrays)):
            raise DamagedChunk(f"{self._path(index)} is not what was saved; {_REMEDY}")
        return arrays

    def missing(self, chunks: int) -> list[int]:
        """Return the indices, of 0 to chunks - 1, that are not stored, or are damaged.

        Log lines name the latter, which are removed. Raises UserError if a folder is in the place of a chunk.
        """
        return [index for index in range(chunks) if not self._is_stored(index)]

    def release(self) -> None:
        """Delete the mark alone: the folder is the user's from now on."""
        os.remove(self._path_settings)

    def remove(self) -> None:
        """Delete what the store has written, and the folder if nothing else is in it."""
        remove_leftovers(self.folder, _OWN)
        for name in sorted(filter(re.compile(_OWN).fullmatch, os.listdir(self.folder))):  # `settings`, the mark, last
            os.remove(os.path.join(self.folder, name))
        with contextlib.suppress(OSError):
            os.rmdir(self.folder)

    def _is_stored(self, index: int) -> bool:
        path = self._path(index)
        if not os.path.lexists(path):
            return False
        try:
            self.load(index)
        except DamagedChunk as damage:
            logging.warning("%s", damage)
            if os.path.isdir(path) and not os.path.islink(path):
                raise UserError(f"{path} is a folder: move it away") from damage
            os.remove(path)  # a pipe, perhaps, which no file can replace
            return False
        return True

    def _stored_settings(self) -> bytes | None:
        """Return the content of `settings`, None if there is no such file."""
        try:
            with open_regular(self._path_settings) as file:
                return file.read(len(self._settings) + 1)
        except FileNotFoundError:
            return None

    def _checksum(self, index: int, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """Hash a chunk's arrays with their names, types and shapes, its index and the settings."""
        digest = hashlib.blake2b(self._settings, digest_size=16)
        digest.update(str(index).encode())
        for name, array in sorted(arrays.items()):
            digest.update(f" {name} {array.dtype.str} {array.shape} ".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return np.frombuffer(digest.digest(), np.uint8)

    def _path(self, index: int) -> str:
        return os.path.join(self.folder, f"{index:06d}.npz")
