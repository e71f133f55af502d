"""Results of a long command, stored chunk by chunk, so that a stopped run continues where it was.

A chunk store is a folder with a file `settings`, which names the run, and NNNNNN.npz for every finished chunk.
"""

from __future__ import annotations

import os
import shutil
from typing import Mapping

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.formats.atomic import atomic_path, save_text


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
        self._settings = settings
        self._path_settings = os.path.join(folder, "settings")

    def of_another_run(self) -> bool:
        """Return whether the folder holds chunks of other settings, or of unknown ones."""
        try:
            with open(self._path_settings, encoding="utf-8") as file:
                return file.read() != self._settings
        except FileNotFoundError:
            return os.path.isdir(self.folder) and any(name.endswith(".npz") for name in os.listdir(self.folder))

    def refuse_foreign(self) -> None:
        """Raise UserError if the folder holds files but no settings: `remove` would delete what is not ours."""
        names = os.listdir(self.folder) if os.path.isdir(self.folder) else []
        others = [name for name in names if not name.startswith("settings")]  # a settings file may be half written
        if others and not os.path.exists(self._path_settings):
            raise UserError(f"{self.folder} was not made by this command: move it away, or choose another output")

    def begin(self) -> None:
        """Make the folder where it does not exist and store the settings in it. UserError: see `refuse_foreign`."""
        self.refuse_foreign()
        os.makedirs(self.folder, exist_ok=True)
        save_text(self._path_settings, self._settings)

    def save(self, index: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a chunk, completely or not at all."""
        with atomic_path(self._path(index)) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)

    def load(self, index: int) -> dict[str, np.ndarray]:
        """Read the arrays of a chunk."""
        with np.load(self._path(index), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def missing(self, chunks: int) -> list[int]:
        """Return the indices, of 0 to chunks - 1, that are not stored yet."""
        return [index for index in range(chunks) if not os.path.exists(self._path(index))]

    def remove(self) -> None:
        """Delete the folder with everything in it."""
        shutil.rmtree(self.folder)

    def _path(self, index: int) -> str:
        return os.path.join(self.folder, f"{index:06d}.npz")
