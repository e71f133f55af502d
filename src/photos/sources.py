"""Where photos come from: folders of people, lists, csv files and .rec files; every reader gives `Photo`s.

A reader returns photos and what it leaves out: a list of (path, reason).
"""

import csv
import functools
import os
from typing import NamedTuple, Optional, Tuple

from insightface_mx.base.errors import UserError
from insightface_mx.formats.recordio import RecordFile
from insightface_mx.formats.training_set import image_records

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
TEXT = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}


class Photo(NamedTuple):
    """A photo that is still to be read; box: x1, y1, x2, y2; landmark: x1..x5, y1..y5, both in pixels."""

    path: str
    identity: str
    record: Optional[int] = None  # number in the .rec file `path`
    aligned: bool = False
    box: Optional[Tuple[float, ...]] = None
    landmark: Optional[Tuple[float, ...]] = None

    @property
    def name(self):
        return self.path if self.record is None else f"{self.path}#{self.record}"


def read(photo):
    """A photo's encoded bytes. Raises OSError or UserError where it cannot be read."""
    if photo.record is not None:
        return _open_records(photo.path).read(photo.record)[1]
    if not os.path.isfile(photo.path):  # opening a pipe would wait for ever
        raise UserError("there is no such file")
    with open(photo.path, "rb") as file:
        return file.read()


def find(source, root=None, flat=False):
    """All photos of a source, those of a person together, people in the order of their names or numbers.

    source: a folder with a folder for each person (any depth below), one of a training set, a .lst, .csv or .rec file.
    root: folder that a list's paths start from (default: the list's). flat: every photo of the folder is a person.
    """
    photos, skipped = _reader(source, root, flat)
    usable = [photo for photo in photos if not _breaks_lists(photo.path)]
    skipped += [(photo.path, "its name holds a tab or a line break") for photo in photos if _breaks_lists(photo.path)]
    if not usable:
        raise UserError(f"{source} holds no photo of a person; {_what_was_found(skipped)}")
    return sorted(usable, key=_order(usable)), skipped


def _reader(source, root, flat):
    if os.path.isdir(source):
        records = os.path.join(source, "train.rec")
        return from_records(records) if os.path.isfile(records) else from_folder(source, flat)
    if not os.path.isfile(source):
        raise UserError(f"{source} does not exist: give a folder, or a .lst, .csv or .rec file")
    extension = os.path.splitext(source)[1].lower()
    if extension == ".rec":
        return from_records(source)
    if extension not in (".lst", ".csv"):
        raise UserError(f"{source}: only folders and .lst, .csv and .rec files can be read")
    parse = _lst_line if extension == ".lst" else _csv_row
    return from_list(source, root or os.path.dirname(source), parse, "\t" if extension == ".lst" else ",")


def from_folder(root, flat=False):
    """Photos below ROOT/PERSON/, as ImageFolder and LFW have them; flat: in ROOT, a person each."""
    photos, skipped = [], []
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        if entry.is_dir() and not flat:
            for path in _files_below(entry.path, skipped):
                _add(photos, skipped, path, entry.name)
        elif flat:
            _add(photos, skipped, entry.path, os.path.splitext(entry.name)[0])
        else:
            skipped.append((entry.path, "it lies in no person's folder"))
    return photos, skipped


def from_list(path, root, parse, delimiter):
    """Photos of a list's lines, which `parse` turns into Photos; ValueError says what is wrong with a line."""
    photos, skipped = [], []
    with open(path, **{**TEXT, "encoding": "utf-8-sig"}) as file:  # with or without a byte order mark
        quoting = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
        for number, fields in enumerate(csv.reader(file, delimiter=delimiter, quoting=quoting), 1):
            if not fields or (number == 1 and [field.strip().lower() for field in fields] == ["path", "label"]):
                continue
            try:
                photo = parse(fields)
            except ValueError as error:
                skipped.append((f"{path}:{number}", str(error)))
            else:
                photos.append(photo._replace(path=os.path.join(root, photo.path)))
    return photos, skipped


def from_records(path):
    """Images of a training set or of a plain list of records."""
    records = _open_records(path)
    photos, skipped = [], []
    for number in image_records(records).tolist():
        label, problem = _record_label(records, number)
        if problem:
            skipped.append((f"{path}#{number}", problem))
        else:
            photos.append(Photo(path, label, number))
    return photos, skipped


def _record_label(records, number):
    try:
        label = records.read(number)[0][0]
    except UserError as error:
        return None, str(error)
    return (f"{label:.0f}", "") if label >= 0 and label < 2**24 else (None, f"its label {label:g} is no class number")


@functools.lru_cache(maxsize=4)
def _open_records(path):
    return RecordFile(path)


def _files_below(folder, skipped):
    def leave_out(error):
        skipped.append((error.filename, f"the folder cannot be read: {error.strerror}"))

    for parent, folders, files in os.walk(folder, onerror=leave_out):
        folders.sort()
        yield from (os.path.join(parent, name) for name in sorted(files))


def _add(photos, skipped, path, identity):
    if path.lower().endswith(EXTENSIONS):
        photos.append(Photo(path, identity))
    else:
        skipped.append((path, f"its name does not end in {', '.join(EXTENSIONS)}"))


def _csv_row(fields):
    if len(fields) != 2 or not all(field.strip() for field in fields):
        raise ValueError("a row is path,label")
    return Photo(fields[0].strip(), fields[1].strip())


def _lst_line(fields):
    """A line 'aligned path label [box [landmarks]]' or, as im2rec writes it, 'number label path'."""
    if len(fields) >= 3 and _is_number(fields[1]) and not _is_number(fields[-1]):
        return Photo(fields[-1].strip(), _label(fields[1]))
    if len(fields) < 3 or fields[0].strip() not in ("0", "1") or not fields[1].strip():
        raise ValueError("a line is aligned (0 or 1), path, label, or im2rec's number, label, path, with tabs between")
    numbers = tuple(float(number) for number in " ".join(fields[3:]).split())
    if len(numbers) not in (0, 4, 14):
        raise ValueError(f"{len(numbers)} numbers follow the label: 4 are a box, 14 a box and landmarks")
    return Photo(
        fields[1].strip(), _label(fields[2]), None, fields[0].strip() == "1", numbers[:4] or None, numbers[4:] or None
    )


def _label(text):
    if not _is_number(text) or not float(text).is_integer() or float(text) < 0:
        raise ValueError(f"the label '{text[:40]}' is no class number 0, 1, 2 ...")
    return str(int(float(text)))


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def _breaks_lists(path):
    return any(character in path for character in "\t\n\r")


def _order(photos):
    """Sorting key: people by number where all are numbers, else by name; their photos stay in the source's order."""
    if all(photo.identity.isdigit() for photo in photos):
        return lambda photo: int(photo.identity)
    return lambda photo: photo.identity


def _what_was_found(skipped):
    return f"left out: {skipped[0][0]} ({skipped[0][1]}), {len(skipped)} in all" if skipped else "it is empty"
