"""Prepare faces and store them on disk while a set is being built, so that a stopped run continues where it was.

A chunk is the faces of CHUNK photos: `faces` (the encoded faces one after the other, uint8), `sizes` (bytes of each)
and `reasons` (why a photo has no face, or '').
"""

from __future__ import annotations

import functools
import hashlib
import logging
from typing import Sequence

import numpy as np
from tqdm import tqdm

from insightface_mx.datasets.face_options import FaceOptions
from insightface_mx.datasets.prepare import Preparer
from insightface_mx.files.atomic import report_write_errors
from insightface_mx.files.chunks import ChunkStore
from insightface_mx.photos import workers
from insightface_mx.photos.lists import Photo
from insightface_mx.photos.sources import photos_stamp

CHUNK = 64  # photos


class FaceStore:
    """The prepared faces of photos; call `fill` first."""

    def __init__(self, folder: str, photos: Sequence[Photo], options: FaceOptions) -> None:
        """Name the folder; nothing is written yet.

        Args:
            folder: Where faces are stored; a folder of other photos or options is emptied.
            photos: The photos; a face has the index of its photo.
            options: How faces are made.
        """
        self._photos, self._options = photos, options
        run = hashlib.sha256(f"{options} {photos_stamp(photos)}".encode("utf-8", "surrogateescape"))
        self._store = ChunkStore(folder, run.hexdigest())
        self._chunks = len(range(0, len(photos), CHUNK))
        self._faces = functools.lru_cache(maxsize=4)(self._load)

    def fill(self, processes: int) -> None:
        """Prepare the photos that are not stored yet, in `processes` processes."""
        with report_write_errors(self._store.folder):
            if self._store.of_another_run():
                logging.warning("%s is of other photos or options: starting again", self._store.folder)
                self._store.remove()
            self._store.begin()
            missing = self._store.missing(self._chunks)
            done = len(self._photos) - sum(len(self._part(index)) for index in missing)
            if done:
                logging.info("continuing: %d of %d photos are done", done, len(self._photos))
            tasks = ((self._store, index, self._part(index), self._options) for index in missing)
            with tqdm(total=len(self._photos), unit="photo", desc="faces", disable=None) as progress:
                progress.update(done)
                for count in workers.unordered(_prepare, tasks, max(1, min(processes, len(missing)))):
                    progress.update(count)

    def reasons(self) -> list[str]:
        """Return for every photo '' or the reason why it has no face."""
        return [reason for index in range(self._chunks) for reason in self._store.load(index)["reasons"].tolist()]

    def face(self, index: int) -> bytes:
        """Return the encoded face of photo `index`; quick where photos are asked for in their order."""
        return self._faces(index // CHUNK)[index % CHUNK]

    def remove(self) -> None:
        """Delete the stored faces."""
        self._store.remove()

    def _part(self, index: int) -> Sequence[Photo]:
        return self._photos[index * CHUNK : (index + 1) * CHUNK]

    def _load(self, index: int) -> list[bytes]:
        chunk = self._store.load(index)
        faces, ends = chunk["faces"], np.cumsum(chunk["sizes"])
        return [faces[end - size : end].tobytes() for end, size in zip(ends, chunk["sizes"])]


def _prepare(store: ChunkStore, index: int, photos: Sequence[Photo], options: FaceOptions) -> int:
    """Prepare and store a chunk; returns its number of photos."""
    faces, reasons = zip(*_preparer(options)(photos))
    encoded = np.frombuffer(b"".join(faces), np.uint8)
    sizes = np.array([len(face) for face in faces])
    store.save(index, {"faces": encoded, "sizes": sizes, "reasons": np.array(reasons)})
    return len(photos)


@functools.lru_cache(maxsize=1)
def _preparer(options: FaceOptions) -> Preparer:
    """Return the process's Preparer: a detector takes long to load."""
    return Preparer(options)
