"""Lists of photos, the same in every command.

A list has a line for each photo. With tabs: `aligned (0 or 1), path, label [, box [, ten landmark coordinates]]`, or
im2rec's `number, label, path`; without tabs: a path. A .csv has rows of `path,label` or of a path, with or without a
title. A label is a class number 0, 1, 2 ..., -1 where there is none; in a .csv it may be a name. Paths start from the
list's folder, or from a root that is given.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import os
import re
from typing import Iterable, Iterator, List, NamedTuple, Sequence, TextIO, Tuple, cast

from insightface_mx.base.errors import UserError, shorten
from insightface_mx.files.atomic import atomic_path
from insightface_mx.files.regular_file import open_regular
from insightface_mx.files.wrong_file import LENGTH, name_of_wrong_file

NO_LABEL = -1
SOURCES = (  # help text
    "folder of images, list (a path a line, a .csv of path,label, or the .lst of the original or of im2rec), .rec with "
    "its .idx next to it, or .bin; paths in a list start from the list's folder"
)
READABLE = "only folders, lists (.lst, .csv, or a path a line), .rec and .bin files can be read"

_LST_GRAMMAR = "a line is aligned (0 or 1), path, label, or im2rec's number, label, path, with tabs between"
_CSV_GRAMMAR = "a row is path,label"

_WHOLE = re.compile(r"^(-?[0-9]+)\.0+$")  # a whole number as spreadsheets and pandas may write it

Skipped = List[Tuple[str, str]]  # what is left out: its name, or file and line, and the reason


class Photo(NamedTuple):
    """A photo that is still to be read; box: x1, y1, x2, y2; landmark: x1..x5, y1..y5, both in pixels."""

    path: str
    identity: str = ""  # name or class number; '' where the source gives none
    label: int = NO_LABEL  # class number
    record: int | None = None  # index in the .rec file `path`
    aligned: bool = False
    box: tuple[float, ...] | None = None
    landmark: tuple[float, ...] | None = None

    @property
    def name(self) -> str:
        """What lists call the photo."""
        return self.path if self.record is None else f"{self.path}#{self.record}"


def write_text(path: str) -> TextIO:
    """Open a list to write it in UTF-8; names may be of any bytes, which `read_text` reads back."""
    return cast(TextIO, open(path, "w", encoding="utf-8", errors="surrogateescape", newline=""))


def write_csv(path: str, rows: Iterable[Sequence[object]]) -> None:
    """Write a .csv file, completely or not at all."""
    with atomic_path(path) as temporary, write_text(temporary) as file:
        csv.writer(file).writerows(rows)


def read_lines(path: str) -> Iterator[str]:
    """Yield the lines of a text file in UTF-8, or in UTF-16 with a byte order mark; names may be of any bytes.

    Raises:
        OSError: The file cannot be opened, or it is none but a folder, pipe or device.
        UserError: It is no text, or a page that a failed download left.
    """
    with open_regular(path) as file:
        start = file.read(LENGTH)
        wrong = name_of_wrong_file(start, certain=True)
        if wrong:
            raise UserError(f"{path} is {wrong}")
        encoding = _encoding(start[:2])
        file.seek(0)
        errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
        with io.TextIOWrapper(file, encoding, errors, newline="") as text:
            try:
                for line in text:
                    if "\0" in line:
                        raise UserError(
                            f"{path} is no list of paths, as it holds zero bytes: save a list as text in UTF-8; "
                            f"{READABLE}"
                        )
                    yield line
            except UnicodeError as error:
                raise UserError(f"{path} is no text in UTF-16, as its first bytes say: save it in UTF-8") from error


def _encoding(start: bytes) -> str:
    return "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def read_list(path: str, root: str | None, labelled: bool) -> tuple[list[Photo], Skipped]:
    """Read a list of photos.

    Args:
        path: The list; a .csv has commas between its fields, any other file tabs.
        root: Folder that the paths start from; None: the list's own.
        labelled: Whether a line without a label is a problem.

    Returns:
        The photos, and what is wrong with the other lines.

    Raises:
        UserError: The file cannot be read or is no list.
    """
    is_csv = path.lower().endswith(".csv")
    parse, no_label = (_csv_row, _CSV_GRAMMAR) if is_csv else (_lst_line, f"no class number is given: {_LST_GRAMMAR}")
    folder = os.path.dirname(path) if root is None else root
    photos: list[Photo] = []
    problems: Skipped = []
    for number, fields in _fields(path, "," if is_csv else "\t"):
        if is_csv and number == 1 and [field.strip().lower() for field in fields] in (["path"], ["path", "label"]):
            continue
        try:
            photo = parse(fields)
            if labelled and not photo.identity:
                raise ValueError(no_label)
        except ValueError as error:
            problems.append((f"{path}:{number}", str(error)))
        else:
            photos.append(photo._replace(path=os.path.join(folder, photo.path)))
    return photos, problems


def _fields(path: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number, from 1, and the fields of each line that is not empty. UserError: the file is no list."""
    number = 0
    try:
        lines = read_lines(path)
        rows = csv.reader(lines) if delimiter == "," else csv.reader(lines, csv.excel_tab, quoting=csv.QUOTE_NONE)
        for number, fields in enumerate(rows, 1):
            if any(field.strip() for field in fields):
                yield number, fields
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}; {READABLE}") from error
    except csv.Error as error:
        raise UserError(f"{path}:{number + 1}: {error}: {READABLE}") from error


def _csv_row(fields: list[str]) -> Photo:
    """Parse a row 'path,label' or 'path'."""
    if len(fields) > 2 or not all(field.strip() for field in fields):
        raise ValueError(_CSV_GRAMMAR)
    path, identity = fields[0].strip(), fields[-1].strip() if len(fields) == 2 else ""
    identity = _WHOLE.sub(r"\1", identity)
    if identity == str(NO_LABEL):
        return Photo(path)
    return Photo(path, identity, int(identity) if is_class(identity) else NO_LABEL)


def _lst_line(fields: list[str]) -> Photo:
    """Parse a line 'aligned path [label [box [landmarks]]]', im2rec's 'number label path', or 'path'."""
    fields = [field.strip() for field in fields]
    if len(fields) == 1:
        return Photo(fields[0])
    if len(fields) >= 3 and _is_number(fields[1]) and not _is_number(fields[-1]):
        return _labelled(fields[-1], fields[1])
    if fields[0] not in ("0", "1") or not fields[1]:
        raise ValueError(_LST_GRAMMAR)
    photo = Photo(fields[1]) if len(fields) == 2 else _labelled(fields[1], fields[2])
    texts = " ".join(fields[3:]).split()
    if len(texts) not in (0, 4, 14):
        raise ValueError(f"{len(texts)} numbers follow the label: 4 are a box, 14 a box and landmarks")
    wrong = [text for text in texts if not (_is_number(text) and math.isfinite(float(text)))]
    if wrong:
        raise ValueError(f"'{shorten(wrong[0])}' in the box or landmarks is no number of pixels")
    numbers = tuple(map(float, texts))
    return photo._replace(aligned=fields[0] == "1", box=numbers[:4] or None, landmark=numbers[4:] or None)


def _labelled(path: str, text: str) -> Photo:
    """Return the photo of a class, or of none where the label is -1. ValueError: the label is neither."""
    label = float(text) if _is_number(text) else math.nan
    if not label.is_integer() or not NO_LABEL <= label < 2**63:
        raise ValueError(f"the label '{shorten(text)}' is no class number 0, 1, 2 ...")
    return Photo(path, str(int(label)) if label >= 0 else "", int(label))


def is_class(text: str) -> bool:
    """Return whether text is a class number."""
    return text.isdecimal() and len(text) < 19  # digits of a 64-bit integer


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
