"""Read what IJB-B and IJB-C publish beside their images: templates, landmarks, pairs, galleries and probes.

A folder X holds meta/ and loose_crop/. In meta/, x being ijbb or ijbc:

    x_face_tid_mid.txt          image, template, medium, with spaces between them; a line for each image
    x_name_5pts_score.txt       image, x1 y1 .. x5 y5 in pixels of the crop, detector score; the same images
    x_template_pair_label.txt   template, template, 1 (one identity) or 0
    x_1N_gallery_G1.csv ...     template, subject and more, after a title; a line for each image
    x_1N_probe_mixed.csv        likewise

The first two files list the images in one order.

A .csv of one's own has a title and the columns image, template, medium and subject in any order; where it also has x1,
y1 .. x5, y5 the faces are aligned by these, and `score` is the detector's.
"""

from __future__ import annotations

import csv
import glob
import math
import os
from typing import Dict, Iterator, NamedTuple, Sequence

import numpy as np

from insightface_mx.base.errors import UserError, shorten
from insightface_mx.files.number_table import read_whole_numbers
from insightface_mx.photos.lists import Photo, read_lines

LANDMARKS = tuple(f"{axis}{point}" for point in range(1, 6) for axis in "xy")  # in the order of the files
OWN_COLUMNS = ("image", "template", "medium", "subject")
_MEDIA, _POINTS, _PAIRS = "face_tid_mid.txt", "name_5pts_score.txt", "template_pair_label.txt"
_PAIR_GRAMMAR = "template, template, 1 or 0, three whole numbers"


class Images(NamedTuple):
    """The images of templates.

    Attributes:
        photos: What to read, with landmarks where there are some.
        templates: (n,) template of each image, a number.
        media: (n,) medium of each image, a number.
        scores: (n,) float32, the detector's; None where the list has none.
        path: The list.
        lines: The line of each image in the list.
        names: Name of each template by number; empty where the numbers are the names.
    """

    photos: list[Photo]
    templates: np.ndarray
    media: np.ndarray
    scores: np.ndarray | None
    path: str
    lines: Sequence[int]
    names: Sequence[str] = ()

    def place(self, image: int) -> str:
        """Return 'FILE:LINE' of an image."""
        return f"{self.path}:{self.lines[image]}"

    def name(self, template: int) -> str:
        """Return what the list calls a template."""
        return self.names[template] if self.names else str(template)


Subjects = Dict[int, str]  # template -> subject


class MetaFolder:
    """The files of an IJB folder."""

    def __init__(self, folder: str, images: str | None = None, landmarks: str | None = None) -> None:
        """Find the files.

        Args:
            folder: The folder.
            images: Folder of the images; None: loose_crop.
            landmarks: Another file of landmarks.

        Raises:
            UserError: The folder holds no such set, or several.
        """
        self._images, meta = images or os.path.join(folder, "loose_crop"), os.path.join(folder, "meta")
        found = sorted(glob.glob(os.path.join(glob.escape(meta), f"*_{_MEDIA}")))
        if len(found) != 1:
            names = " and ".join(map(os.path.basename, found)) or f"no *_{_MEDIA}"
            raise UserError(f"{meta} must hold one *_{_MEDIA}, that of one set: it holds {names}")
        self.media = found[0]
        self._prefix = found[0][: -len(_MEDIA)]
        self.landmarks = landmarks or f"{self._prefix}{_POINTS}"
        self.pairs = f"{self._prefix}{_PAIRS}"
        self.galleries = sorted(glob.glob(f"{glob.escape(self._prefix)}1N_gallery_*.csv"))
        self.probes = f"{self._prefix}1N_probe_mixed.csv"

    def images(self) -> Images:
        """Read the list of images. UserError: a line is wrong, or the two files do not go together."""
        photos: list[Photo] = []
        numbers: list[tuple[int, int]] = []
        scores: list[float] = []
        media = _rows(self.media, 3, "image, template, medium")
        points = _rows(self.landmarks, 12, "image, ten numbers x1 y1 .. x5 y5, detector score")
        for line, (name, template, medium) in media:
            other_line, values = next(points, (0, [""]))
            if os.path.basename(values[0]) != os.path.basename(name):
                raise UserError(
                    f"{self.media}:{line} has the image {shorten(name)}, "
                    f"{self.landmarks}:{other_line or line} {shorten(values[0]) or 'none'}: "
                    "the two files have a line for each image, in one order"
                )
            place = f"{self.media}:{line}"
            numbers.append((_id(template, "template", place), _id(medium, "medium", place)))
            landmark, score = _landmarks(values[1:], f"{self.landmarks}:{other_line}")
            scores.append(score)
            photos.append(Photo(os.path.join(self._images, name), landmark=landmark))
        if not photos:
            raise UserError(f"{self.media} names no image")
        extra = next(points, None)
        if extra:
            raise UserError(f"{self.landmarks}:{extra[0]} names an image more than {self.media} has")
        templates, media_ids = np.array(numbers, np.int64).T
        lines = range(1, len(photos) + 1)
        return Images(photos, templates, media_ids, np.array(scores, np.float32), self.media, lines)


def read_pairs(path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read pairs of templates.

    Returns:
        (n,) template, (n,) template, (n,) bool: one identity.

    Raises:
        UserError: A line is wrong, or all pairs are of one kind.
    """
    first, second, labels = read_whole_numbers(path, 3, _PAIR_GRAMMAR).T
    wrong = np.flatnonzero(labels > 1)
    if wrong.size:
        raise UserError(f"{path}:{wrong[0] + 1} has the label {labels[wrong[0]]}: 1 is one identity, 0 two")
    genuine = labels == 1
    for count, kind in ((int(genuine.sum()), "one identity"), (int((~genuine).sum()), "two identities")):
        if not count:
            raise UserError(f"{path} has no pair of {kind}: without one there is no rate")
    return np.ascontiguousarray(first), np.ascontiguousarray(second), genuine


def read_subjects(path: str) -> Subjects:
    """Read the templates of a gallery or of probes, with their subjects.

    Raises:
        UserError: A line is wrong, a template has two subjects, or there is none.
    """
    subjects: Subjects = {}
    for line, row in _csv_rows(path):
        if line == 1:
            continue
        place = f"{path}:{line}"
        if len(row) < 2 or not row[1].strip():
            raise UserError(f"{place} is no row of template,subject")
        template, subject = _id(row[0].strip(), "template", place), row[1].strip()
        if subjects.setdefault(template, subject) != subject:
            raise UserError(
                f"{place}: template {template} is of subject {shorten(subject)}, and above of "
                f"{shorten(subjects[template])}"
            )
    if not subjects:
        raise UserError(f"{path} has no template after its title")
    return subjects


def read_own(path: str, root: str | None) -> tuple[Images, Subjects]:
    """Read a .csv of one's own; `root`: folder that its images start from, None: the list's own.

    Raises:
        UserError: A column is missing, a row is wrong, or a template has two subjects.
    """
    rows = _csv_rows(path)
    title = [name.strip().lower() for name in next(rows, (0, []))[1]]
    missing = [name for name in OWN_COLUMNS if name not in title]
    if missing:
        raise UserError(f"{path}:1 is no title with the columns {', '.join(OWN_COLUMNS)}: {missing[0]} is missing")
    folder = os.path.dirname(path) if root is None else root
    codes: dict[str, dict[str, int]] = {"template": {}, "medium": {}}  # name -> number
    photos: list[Photo] = []
    numbers: list[list[int]] = []
    scores: list[float] = []
    lines: list[int] = []
    subjects: Subjects = {}
    for line, row in rows:
        fields = dict(zip(title, map(str.strip, row)))
        if len(row) != len(title) or not all(fields.values()):
            raise UserError(f"{path}:{line} has {len(row)} fields, some perhaps empty; the title has {len(title)}")
        landmark, score = _own_landmarks(fields, f"{path}:{line}")
        numbers.append([codes[kind].setdefault(fields[kind], len(codes[kind])) for kind in codes])
        subject = subjects.setdefault(numbers[-1][0], fields["subject"])
        if subject != fields["subject"]:
            raise UserError(
                f"{path}:{line}: template {shorten(fields['template'])} is of subject {shorten(fields['subject'])}, "
                f"and above of {shorten(subject)}"
            )
        photos.append(Photo(os.path.join(folder, fields["image"]), landmark=landmark))
        scores.append(score)
        lines.append(line)
    if not photos:
        raise UserError(f"{path} names no image")
    templates, media = np.array(numbers, np.int64).T
    weights = np.array(scores, np.float32) if "score" in title else None
    return Images(photos, templates, media, weights, path, lines, list(codes["template"])), subjects


def _own_landmarks(fields: dict[str, str], place: str) -> tuple[tuple[float, ...] | None, float]:
    """Return the landmarks of a row, None where it has no columns of them, and its score, 1 where it has none."""
    has_points = set(LANDMARKS) <= set(fields)
    texts = [fields[name] if has_points else "0" for name in LANDMARKS]
    landmark, score = _landmarks([*texts, fields.get("score", "1")], place)
    return landmark if has_points else None, score


def _rows(path: str, columns: int, grammar: str) -> Iterator[tuple[int, list[str]]]:
    """Yield number and fields of each line. UserError: the file cannot be opened, or a line has other fields."""
    try:
        for number, line in enumerate(read_lines(path), 1):
            fields = line.split()
            if len(fields) != columns:
                raise UserError(f"{path}:{number} has {len(fields)} fields: a line is {grammar}")
            yield number, fields
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}") from error


def _csv_rows(path: str) -> Iterator[tuple[int, list[str]]]:
    """Yield number and fields of each row that is not empty. UserError: the file cannot be read."""
    number = 0
    try:
        for number, row in enumerate(csv.reader(read_lines(path)), 1):
            if row:
                yield number, row
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}") from error
    except csv.Error as error:
        raise UserError(f"{path}:{number + 1}: {error}") from error


def _id(text: str, kind: str, place: str) -> int:
    """Return the number of a template or medium."""
    if not text.isdecimal() or len(text) > 10 or int(text) > np.iinfo(np.int32).max:
        raise UserError(f"{place}: the {kind} '{shorten(text)}' is no number from 0 to {np.iinfo(np.int32).max}")
    return int(text)


def _landmarks(texts: Sequence[str], place: str) -> tuple[tuple[float, ...], float]:
    """Return landmarks x1..x5, y1..y5 and a score from x1 y1 .. x5 y5 score."""
    try:
        values = list(map(float, texts))
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        wrong = next((text for text in texts if not _is_finite(text)), "")
        raise UserError(f"{place}: '{shorten(wrong)}' is no finite number")
    return (*values[0:10:2], *values[1:10:2]), values[10]


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
