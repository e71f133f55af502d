"""Lists of pairs as the verification sets publish them, in the list's order."""

from __future__ import annotations

import csv
import os
import re
from typing import NamedTuple

from insightface_mx.base.errors import UserError
from insightface_mx.photos.image_files import EXTENSIONS, is_image
from insightface_mx.photos.lists import Skipped, read_lines

_SAME, _DIFFERENT = ("1", "+1", "1.0", "true"), ("0", "-1", "0.0", "-1.0", "false")
FLAGS = {**dict.fromkeys(_SAME, True), **dict.fromkeys(_DIFFERENT, False)}
_DIGITS = (4, 1, 2, 3, 5, 6)  # of a photo's number in its file's name, in LFW 4


class Pair(NamedTuple):
    """The paths of two photos, and whether they show the same identity."""

    one: str
    other: str
    same: bool


def read(list_format: str, path: str, root: str | None) -> tuple[list[Pair], Skipped]:
    """Read a list of pairs.

    Args:
        list_format: 'lfw', 'cfp-ff', 'cfp-fp' or 'plain'.
        path: The list; for CFP its folder Protocol.
        root: Folder that the photos' paths start from; None: the list's own.

    Returns:
        The pairs, and what is left out: place in the list, and the reason.

    Raises:
        UserError: The list cannot be read.
    """
    if list_format.startswith("cfp-"):
        return cfp(path, path if root is None else root, list_format[-2:].upper())
    folder = os.path.dirname(path) if root is None else root
    return lfw(path, folder) if list_format == "lfw" else plain(path, folder)


def lfw(path: str, root: str) -> tuple[list[Pair], Skipped]:
    """Read a pairs.txt: 'name n m' for two photos of an identity, 'name n name m' of two.

    Its first line may hold one or two counts, of folds and of pairs.
    """
    pairs: list[Pair] = []
    skipped: Skipped = []
    for place, (number, line) in enumerate(_lines(path)):
        fields = [field.strip() for field in line.split("\t")] if "\t" in line else line.split()
        if place == 0 and len(fields) < 3 and all(field.isdecimal() for field in fields):
            continue
        if len(fields) not in (3, 4) or not (fields[1] + fields[-1]).isdecimal():
            skipped.append((f"{path}:{number}", "a line is name, number, number or name, number, name, number"))
            continue
        other = fields[0] if len(fields) == 3 else fields[2]
        one_path, other_path = _lfw_photo(root, fields[0], fields[1]), _lfw_photo(root, other, fields[-1])
        pairs.append(Pair(one_path, other_path, fields[0] == other))
    return pairs, skipped


def _lfw_photo(root: str, name: str, number: str) -> str:
    """Return the path of an identity's photo: with a number of four digits as in LFW, or as other sets write it."""
    forms = [number.lstrip("0").zfill(digits) for digits in _DIGITS]
    stems = [os.path.join(root, name, f"{name}_{form}") for form in (*forms, number)]
    paths = [stem + ending for stem in dict.fromkeys(stems) for ending in EXTENSIONS]
    return next((path for path in paths if os.path.exists(path)), paths[0])


def cfp(path: str, root: str, kind: str) -> tuple[list[Pair], Skipped]:
    """Read CFP's folder Protocol, ten splits.

    Args:
        path: The folder.
        root: Folder that the photos' paths start from, usually the same.
        kind: 'FF', frontal with frontal photos, or 'FP', frontal with profile photos.
    """
    lists = [_cfp_list(path, name, root) for name in ("F", kind[1])]
    splits = os.path.join(path, "Split", kind)
    if not os.path.isdir(splits):
        raise UserError(f"{splits} does not exist: give CFP's folder Protocol")
    pairs: list[Pair] = []
    skipped: Skipped = []
    for split in sorted(os.listdir(splits)):
        for name, same in (("same.txt", True), ("diff.txt", False)):
            file = os.path.join(splits, split, name)
            for number, line in _lines(file):
                found = [photos.get(field.strip(), "") for photos, field in zip(lists, line.split(","))]
                if len(found) == 2 and all(found):
                    pairs.append(Pair(found[0], found[1], same))
                else:
                    skipped.append((f"{file}:{number}", "a line is two numbers of photos, with a comma between"))
    return pairs, skipped


def _cfp_list(path: str, name: str, root: str) -> dict[str, str]:
    """Read the list of photos F or P: path by number, as text."""
    rows = (line.split(None, 1) for _, line in _lines(os.path.join(path, f"Pair_list_{name}.txt")))
    return {row[0]: os.path.normpath(os.path.join(root, row[1])) for row in rows if len(row) == 2}


def plain(path: str, root: str) -> tuple[list[Pair], Skipped]:
    """Read lines 'path path same' (1, or 0 or -1) with tabs, commas or spaces between, as for AgeDB-30.

    A .csv may have a title.
    """
    pairs: list[Pair] = []
    skipped: Skipped = []
    for number, line in _lines(path):
        fields = _plain_fields(line)
        if len(fields) == 3 and fields[2].lower() in FLAGS and all(fields):
            one, other = (os.path.join(root, field) for field in fields[:2])
            pairs.append(Pair(one, other, FLAGS[fields[2].lower()]))
        elif not (number == 1 and "," in line and _is_title(fields)):
            skipped.append((f"{path}:{number}", "a line is path, path and 1 (the same identity), 0 or -1"))
    return pairs, skipped


def _is_title(fields: list[str]) -> bool:
    """Return whether the fields of a .csv's first line are names of columns, and neither paths nor a flag."""
    return len(fields) == 3 and not any(map(_is_path, fields)) and not re.fullmatch(r"[-+.\d]*", fields[2])


def _is_path(text: str) -> bool:
    return os.sep in text or is_image(text)


def _plain_fields(line: str) -> list[str]:
    """Split a line at tabs, commas or spaces; no fields where it is no line of a .csv."""
    if "\t" in line:
        fields = line.split("\t")
    elif "," in line:
        try:
            fields = next(csv.reader([line]))
        except csv.Error:  # a field of more than 128 KB
            return []
    else:
        fields = line.split()
    return [field.strip() for field in fields]


def _lines(path: str) -> list[tuple[int, str]]:
    """Read the lines that are not empty: their number, from 1, and text."""
    try:
        return [(number, line.strip()) for number, line in enumerate(read_lines(path), 1) if line.strip()]
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}") from error
