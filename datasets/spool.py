"""Prepared faces on disk while a set is being built, so that a killed run goes on where it was.

A spool is a folder with `plan`, a hash of what is being done, and a file for every CHUNK photos, written whole or not
at all. The file holds the encoded faces one after the other, their sizes (bytes) and for each the reason why it has
none, or ''.
"""

import functools
import hashlib
import logging
import os
import shutil

import numpy as np
from tqdm import tqdm

from insightface_mx.datasets import workers
from insightface_mx.datasets.prepare import Preparer
from insightface_mx.formats.atomic import atomic_path, report_write_errors, save_text

CHUNK = 64  # photos


class Spool:
    """The faces of a list of Photos, prepared under `settings`, in `folder`; use `fill` first."""

    def __init__(self, folder, photos, settings):
        self.folder, self._photos, self._settings = folder, photos, settings
        self._chunk = functools.lru_cache(maxsize=4)(self._load)

    def fill(self, processes):
        """Prepare what is not yet there, in so many processes."""
        with report_write_errors(self.folder):
            self._begin()
            missing = [number for number in range(self._chunks) if not os.path.exists(self._path(number))]
            if len(missing) < self._chunks:
                logging.info("going on: %d of %d photos are done", *self._done(missing))
            tasks = ((self._path(number), self._part(number), self._settings) for number in missing)
            with tqdm(total=len(self._photos), unit="photo", desc="faces", disable=None) as progress:
                progress.update(self._done(missing)[0])
                for count in workers.unordered(_prepare, tasks, max(1, min(processes, len(missing)))):
                    progress.update(count)

    def reasons(self):
        """For every photo '' or the reason why it has no face."""
        found = []
        for number in range(self._chunks):
            with np.load(self._path(number), allow_pickle=False) as chunk:
                found += chunk["reasons"].tolist()
        return found

    def face(self, number):
        """The encoded face of photo `number`; quick where photos are asked for in their order."""
        return self._chunk(number // CHUNK)[number % CHUNK]

    def remove(self):
        shutil.rmtree(self.folder)

    @property
    def _chunks(self):
        return -(-len(self._photos) // CHUNK)

    def _path(self, number):
        return os.path.join(self.folder, f"{number:06d}.npz")

    def _part(self, number):
        return self._photos[number * CHUNK : (number + 1) * CHUNK]

    def _done(self, missing):
        return len(self._photos) - sum(len(self._part(number)) for number in missing), len(self._photos)

    def _load(self, number):
        with np.load(self._path(number), allow_pickle=False) as chunk:
            ends = np.cumsum(chunk["sizes"])
            faces = chunk["faces"]
        return [faces[end - size : end].tobytes() for end, size in zip(ends, np.diff(ends, prepend=0))]

    def _begin(self):
        """Make the folder; one of other photos or settings is emptied."""
        plan, path = self._plan(), os.path.join(self.folder, "plan")
        if os.path.isdir(self.folder) and not _holds(path, plan):
            logging.warning("%s is of other photos or options: starting anew", self.folder)
            shutil.rmtree(self.folder)
        os.makedirs(self.folder, exist_ok=True)
        save_text(path, plan)

    def _plan(self):
        digest = hashlib.sha256(repr(self._settings).encode())
        for photo in self._photos:
            digest.update(repr((photo, _stamp(photo.path))).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def _prepare(path, photos, settings):
    """Write the file of a chunk; returns its number of photos."""
    faces, reasons = zip(*_preparer(settings)(photos))
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            faces=np.frombuffer(b"".join(faces), np.uint8),
            sizes=np.array([len(face) for face in faces]),
            reasons=np.array(reasons),
        )
    return len(photos)


@functools.lru_cache(maxsize=1)
def _preparer(settings):
    return Preparer(settings)


def _holds(path, text):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read() == text
    except FileNotFoundError:
        return False


def _stamp(path):
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
