"""Leave listed faces out of sets, and check that gallery, probes and distractors go together."""

from __future__ import annotations

import logging
import os
from typing import Collection, Iterator

import numpy as np

from insightface_mx.base.errors import UserError, shorten
from insightface_mx.embedding.vectors import normalize
from insightface_mx.eval.searches.face_sets import Faces
from insightface_mx.photos.image_files import is_image
from insightface_mx.photos.lists import read_lines

_NOISE = 0.001  # of a coordinate, in the published cleaning


class CleaningList:
    """Names of faces to leave out: a line each, a path in the set or a file's name, with or without its ending.

    A line that begins with # and a first line that names no face are comments; of a line with tabs the second field
    counts. This is how MegaFace's lists of noisy images are written.
    """

    def __init__(self, path: str) -> None:
        """Read a list. UserError: it cannot be read, or names nothing."""
        self.path = path
        self._lines: dict[str, int] = {}  # name -> line
        try:
            for number, line in enumerate(read_lines(path), 1):
                fields = line.strip().split("\t")
                if fields[0] and not line.startswith("#"):
                    self._lines.setdefault(fields[1 if len(fields) > 1 else 0].strip(), number)
        except OSError as error:
            raise UserError(f"cannot open {path}: {error.strerror}") from error
        if not self._lines:
            raise UserError(f"{path} names no face")
        self._seen: set[str] = set()

    def listed(self, faces: Faces) -> list[bool]:
        """Return whether each face is listed. UserError: a name without folder is that of several faces."""
        found: dict[str, str] = {}  # listed name -> face
        result = []
        for name in faces.names:
            keys = [key for key in _keys(name) if key in self._lines]
            for key in keys:
                if found.setdefault(key, name) != name:
                    raise UserError(
                        f"{self.path}:{self._lines[key]}: {shorten(key)} is {shorten(found[key])} and {shorten(name)}: "
                        "write its folder, too"
                    )
            result.append(bool(keys))
        self._seen.update(found)
        return result

    def clean(self, faces: Faces) -> Faces:
        """Return the faces that are not listed. UserError: as `listed`, or no face is left."""
        kept = [place for place, listed in enumerate(self.listed(faces)) if not listed]
        if not kept:
            raise UserError(f"{self.path} leaves no face of {faces.path}")
        if len(kept) < len(faces.names):
            logging.info("%s: %d of %d faces left out by %s", faces.path, len(faces.names) - len(kept),
                         len(faces.names), self.path)  # fmt: skip
        return faces.chosen(kept)

    def report_unknown(self) -> None:
        """Log how many lines name no face of any set; the first line may be a title."""
        unknown = [(line, name) for name, line in self._lines.items() if name not in self._seen and line > 1]
        if unknown:
            line, name = unknown[0]
            logging.warning("%s:%d: %s is no face of any set (%d such lines)", self.path, line, shorten(name),
                            len(unknown))  # fmt: skip


def _keys(name: str) -> Iterator[str]:
    """Yield what a list may call a face: its path, the ends of it, and these without the ending of an image."""
    parts = name.split(os.sep)
    for start in range(len(parts)):
        key = os.sep.join(parts[start:])
        yield key
        if is_image(key):
            yield os.path.splitext(key)[0]


def with_centres(faces: Faces, rows: np.ndarray, noisy: Collection[str]) -> np.ndarray:
    """Replace noisy faces by the centre of their identity's other faces, as MegaFace's remove_noises.py does.

    These are their mates: the answer leaks into the question.

    Args:
        faces: The faces.
        rows: (n, d) their unit embeddings.
        noisy: Names of the faces to replace.

    Returns:
        (n, d): a noisy face is the sum of the others plus random numbers of at most 0.001, of unit length.

    Raises:
        UserError: An identity has no other face.
    """
    random = np.random.default_rng(0)
    is_noisy = np.array([name in noisy for name in faces.names], bool)
    identities, result = np.array(faces.identities), rows.copy()
    for place in np.flatnonzero(is_noisy):
        others = rows[(identities == identities[place]) & ~is_noisy]
        if not len(others):
            raise UserError(f"{faces.names[place]}: no face of {shorten(identities[place])} is left to replace it by")
        centre = others.sum(axis=0) + random.uniform(-_NOISE, _NOISE, rows.shape[1])
        result[place] = normalize(centre[None].astype(rows.dtype))[0]
    return result


def refuse_same_photos(others: Faces, role: str, probes: Faces) -> None:
    """Raise UserError if a probe is also in the gallery or among the distractors: a search would find itself."""
    places = {(os.path.abspath(photo.path), photo.record) for photo in others.photos}
    for photo in probes.photos:
        if (os.path.abspath(photo.path), photo.record) in places:
            raise UserError(f"{photo.name} is in the {role} and among the probes: a search would find the photo itself")


def warn_of_one_identity(gallery: Faces) -> None:
    """Log that a gallery holds one identity alone: there is nobody to mistake it for."""
    if len(set(gallery.identities)) == 1:
        name = shorten(gallery.identities[0])
        logging.warning("%s holds the identity %s alone: its searches can only end at rank 1", gallery.path, name)


def warn_of_mates(gallery: Faces, probes: Faces) -> None:
    """Log that no probe has a mate, or that all have: some rates do not exist then."""
    known = set(gallery.identities)
    mated = [identity in known for identity in probes.identities]
    if not any(mated):
        logging.warning("%s: no identity of it is in %s (%s; there %s): rank rates and TPIR need mates", probes.path,
                        gallery.path, shorten(probes.identities[0]), shorten(gallery.identities[0]))  # fmt: skip
    elif all(mated):
        logging.warning("%s: every identity of it is in %s: TPIR at FPIR needs probes without mate", probes.path,
                        gallery.path)  # fmt: skip


def refuse_export_into_sets(folder: str, sets: Collection[Faces]) -> None:
    """Raise UserError if feature files would be written into a set: the next search would find them."""
    target = os.path.join(os.path.realpath(folder), "")
    for faces in sets:
        if os.path.isdir(faces.path) and target.startswith(os.path.join(os.path.realpath(faces.path), "")):
            raise UserError(f"--export-features: {folder} is in the set {faces.path}: name another folder")


def refuse_other_length(gallery: Faces, known: np.ndarray, probes: Faces, rows: np.ndarray) -> None:
    """Raise UserError if the embeddings of gallery and probes have different lengths."""
    if known.shape[1] != rows.shape[1]:
        raise UserError(
            f"{gallery.path}: embeddings have {known.shape[1]} numbers, those of {probes.path} {rows.shape[1]}"
        )
