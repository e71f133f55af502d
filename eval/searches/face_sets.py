"""The sets of faces that a search needs, gallery, probes and distractors: photos, or feature files of MegaFace."""

from __future__ import annotations

import logging
import os
from collections import Counter
from typing import Iterator, NamedTuple, Sequence

import numpy as np

from insightface_mx.base.errors import UserError, shorten
from insightface_mx.embedding.vectors import normalize
from insightface_mx.eval.features.face_features import Features
from insightface_mx.files.atomic import report_write_errors
from insightface_mx.formats import megaface
from insightface_mx.photos.identities import identity_photos
from insightface_mx.photos.image_files import is_image
from insightface_mx.photos.lists import Photo, Skipped
from insightface_mx.photos.sources import file_photos

FOLDER, NAME = "folder", "name"  # where a face's identity stands
BLOCK = 512  # feature files that are read at a time


class Faces(NamedTuple):
    """The faces of a set.

    Attributes:
        path: The folder or list.
        photos: What to read; its identity is '' for distractors.
        names: What results, feature files and cleaning lists call each face: its path in the set.
        are_features: Whether the files hold embeddings, not images.
    """

    path: str
    photos: list[Photo]
    names: list[str]
    are_features: bool

    @property
    def identities(self) -> list[str]:
        """The identity of each face."""
        return [photo.identity for photo in self.photos]

    def chosen(self, places: Sequence[int]) -> Faces:
        """Return some of the faces."""
        return self._replace(
            photos=[self.photos[place] for place in places], names=[self.names[place] for place in places]
        )


class Block(NamedTuple):
    """The embeddings of faces that follow each other; `problems`: why a face has none, or ''.

    Attributes:
        start: Index of the first face.
        rows: (n, d) float32, of unit length; those without embedding are zero.
        problems: n texts.
    """

    start: int
    rows: np.ndarray
    problems: list[str]


def open_faces(path: str, identity_from: str | None) -> Faces:
    """Find the faces of a set.

    Args:
        path: A folder of images or of feature files, a list, or training records.
        identity_from: "folder": an identity is a folder, or a list's label; "name": what stands before the first _ of a
            file's name; None: the faces are of nobody that is looked for.

    Raises:
        UserError: There is none.
    """
    files = _feature_files(path) if os.path.isdir(path) else []
    skipped: Skipped = []
    if files:
        names = [megaface.image_name(os.path.relpath(file, path)) for file in files]
        photos = [Photo(file, name.split(os.sep)[0] if os.sep in name else "") for file, name in zip(files, names)]
    elif identity_from == FOLDER or path.lower().endswith(".rec") or os.path.isfile(os.path.join(path, "train.rec")):
        photos, skipped = identity_photos(path)
        names = _names(path, photos)
    else:
        photos, skipped = file_photos(path)
        names = _names(path, photos)
    for name, reason in skipped[:1]:
        logging.warning("%s: %d left out, the first is %s: %s", path, len(skipped), name, reason)
    if identity_from == NAME:
        photos = [photo._replace(identity=os.path.basename(name).split("_")[0]) for photo, name in zip(photos, names)]
    elif identity_from is None:
        photos = [photo._replace(identity="") for photo in photos]
    nobody = [name for photo, name in zip(photos, names) if identity_from and not photo.identity]
    if nobody:
        raise UserError(f"{path}: {shorten(nobody[0])} is in no identity's folder; see --identity-from")
    return Faces(path, photos, names, bool(files))


def split_first(faces: Faces) -> tuple[Faces, Faces]:
    """Return the first face, by name, of each identity with several faces, and all other faces.

    Raises:
        UserError: No identity has several faces.
    """
    counts = Counter(faces.identities)
    first: dict[str, int] = {}
    for place in sorted(range(len(faces.names)), key=faces.names.__getitem__):
        first.setdefault(faces.photos[place].identity, place)
    chosen = {place for identity, place in first.items() if counts[identity] > 1}
    if not chosen:
        raise UserError(f"{faces.path} holds no identity with two faces: there is no gallery for --first-as-gallery")
    return faces.chosen(sorted(chosen)), faces.chosen([p for p in range(len(faces.names)) if p not in chosen])


def _feature_files(folder: str) -> list[str]:
    """Return the feature files below a folder, sorted; none where it holds images or training records."""
    files = []
    for parent, _, names in os.walk(folder):
        for name in names:
            if is_image(name) or name == "train.rec":
                return []
            if name.endswith(megaface.ENDING):
                files.append(os.path.join(parent, name))
    return sorted(files)


def _names(path: str, photos: Sequence[Photo]) -> list[str]:
    """Return the paths of photos in a set, of a record its identity and index."""
    folder = os.path.abspath(path if os.path.isdir(path) else os.path.dirname(path))
    return [
        os.path.relpath(os.path.abspath(photo.path), folder)
        if photo.record is None
        else os.path.join(photo.identity, str(photo.record))
        for photo in photos
    ]


def feature_blocks(faces: Faces) -> Iterator[Block]:
    """Read the feature files of a set. UserError: one is damaged, or is of another length than the others."""
    length = 0
    for start in range(0, len(faces.photos), BLOCK):
        paths = [photo.path for photo in faces.photos[start : start + BLOCK]]
        rows = [megaface.read_feature(path) for path in paths]
        length = length or len(rows[0])
        for path, row in zip(paths, rows):
            if len(row) != length:
                raise UserError(f"{path} has {len(row)} numbers, {faces.photos[0].path} has {length}")
        yield _block(start, np.stack(rows), [""] * len(rows), paths)


def network_blocks(faces: Faces, features: Features) -> Iterator[Block]:
    """Yield the embeddings of a set of photos. UserError: the network's output for one is not finite, or 0."""
    for part in features.parts():
        sums = part.plain if part.mirrored is None else part.plain + part.mirrored
        names = [photo.name for photo in faces.photos[part.start : part.start + len(sums)]]
        yield _block(part.start, sums, part.problems, names)


def _block(start: int, rows: np.ndarray, problems: list[str], names: Sequence[str]) -> Block:
    lengths = np.linalg.norm(rows, axis=1)
    wrong = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)) & np.array([not text for text in problems]))
    if wrong.size:
        what = "0: it has no direction" if lengths[wrong[0]] == 0 else "not finite"
        raise UserError(f"{names[wrong[0]]}: its embedding is {what}")
    return Block(start, normalize(rows), problems)


def usable(faces: Faces, blocks: Iterator[Block]) -> tuple[Faces, np.ndarray, list[str]]:
    """Return the faces that have an embedding, their embeddings (n, d), and a line for each other face."""
    rows, places, problems = [], [], []
    for block in blocks:
        good = [place for place, problem in enumerate(block.problems) if not problem]
        rows.append(block.rows[good])
        places += [block.start + place for place in good]
        problems += [problem for problem in block.problems if problem]
    if not places:
        raise UserError(f"{faces.path}: no face of it can be used; the first: {problems[0]}")
    return faces.chosen(places), np.concatenate(rows), problems


def exported(blocks: Iterator[Block], faces: Faces, folder: str, algorithm: str) -> Iterator[Block]:
    """Yield blocks, and write each embedding to FOLDER/NAME_ALGORITHM.bin."""
    for block in blocks:
        for place, (row, problem) in enumerate(zip(block.rows, block.problems), block.start):
            if problem:
                continue
            path = os.path.join(folder, f"{faces.names[place]}_{algorithm}{megaface.ENDING}")
            with report_write_errors(folder):
                megaface.write_feature(path, row)
        yield block


def refuse_names_outside(faces: Faces) -> None:
    """Raise UserError if the name of a face leads out of the folder that it is exported to."""
    for name in faces.names:
        if name.split(os.sep)[0] == os.pardir or os.path.isabs(name):
            raise UserError(f"--export-features: {shorten(name)} of {faces.path} is not below the list's folder")
