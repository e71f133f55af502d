"""Prepare faces and store them on disk while a set is being built, so that a stopped run continues where it was.

A chunk is the faces of CHUNK photos: `faces` (the encoded faces one after the other, uint8), `sizes` (bytes of each)
and `reasons` (why a photo has no face, or '').
"""

import functools
import hashlib
import logging
import os

import numpy as np
from tqdm import tqdm

from insightface_mx.datasets import workers
from insightface_mx.datasets.prepare import Preparer
from insightface_mx.formats.atomic import report_write_errors
from insightface_mx.formats.chunks import ChunkStore

CHUNK = 64  # photos


class Spool:
    """The faces of a list of Photos, prepared under `settings`, in `folder`; use `fill` first."""

    def __init__(self, folder, photos, settings):
        self._photos, self._settings = photos, settings
        self._store = ChunkStore(folder, _run_hash(photos, settings))
        self._chunks = len(range(0, len(photos), CHUNK))
        self._faces = functools.lru_cache(maxsize=4)(self._load)

    def fill(self, processes):
        """Prepare the photos that are not stored yet, in `processes` processes."""
        with report_write_errors(self._store.folder):
            if self._store.of_another_run():
                logging.warning("%s is of other photos or options: starting again", self._store.folder)
                self._store.remove()
            self._store.begin()
            missing = self._store.missing(self._chunks)
            done = len(self._photos) - sum(len(self._part(index)) for index in missing)
            if done:
                logging.info("going on: %d of %d photos are done", done, len(self._photos))
            tasks = ((self._store, index, self._part(index), self._settings) for index in missing)
            with tqdm(total=len(self._photos), unit="photo", desc="faces", disable=None) as progress:
                progress.update(done)
                for count in workers.unordered(_prepare, tasks, max(1, min(processes, len(missing)))):
                    progress.update(count)

    def reasons(self):
        """Return for every photo '' or the reason why it has no face."""
        return [reason for index in range(self._chunks) for reason in self._store.load(index)["reasons"].tolist()]

    def face(self, index):
        """Return the encoded face of photo `index`; quick where photos are asked for in their order."""
        return self._faces(index // CHUNK)[index % CHUNK]

    def remove(self):
        """Delete the stored faces."""
        self._store.remove()

    def _part(self, index):
        return self._photos[index * CHUNK : (index + 1) * CHUNK]

    def _load(self, index):
        chunk = self._store.load(index)
        faces, ends = chunk["faces"], np.cumsum(chunk["sizes"])
        return [faces[end - size : end].tobytes() for end, size in zip(ends, chunk["sizes"])]


def _prepare(store, index, photos, settings):
    """Prepare and store a chunk; returns its number of photos."""
    faces, reasons = zip(*_preparer(settings)(photos))
    encoded = np.frombuffer(b"".join(faces), np.uint8)
    sizes = np.array([len(face) for face in faces])
    store.save(index, {"faces": encoded, "sizes": sizes, "reasons": np.array(reasons)})
    return len(photos)


@functools.lru_cache(maxsize=1)
def _preparer(settings):
    return Preparer(settings)


def _run_hash(photos, settings):
    """Hash the options, the photos, and the size and change time of their files."""
    digest = hashlib.sha256(repr(settings).encode())
    for photo in photos:
        digest.update(repr((photo, _stamp(photo.path))).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _stamp(path):
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
