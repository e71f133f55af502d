"""Lists of pairs as the verification sets publish them: (path, path, same) in the list's order.

A reader returns pairs and what it leaves out: a list of (place in the list, reason).
"""

import csv
import os

from insightface_mx.base.errors import UserError
from insightface_mx.photos.decode import EXTENSIONS
from insightface_mx.photos.lists import open_text

FLAGS = {"1": True, "0": False, "true": True, "false": False}


def lfw(path, root):
    """pairs.txt: 'name n m' for two photos of a person, 'name n name m' of two; a first line of numbers is skipped."""
    pairs, skipped = [], []
    for number, line in _lines(path):
        fields = line.split("\t") if "\t" in line else line.split()
        if number == 1 and all(field.isdigit() for field in fields):
            continue
        if len(fields) not in (3, 4) or not (fields[1] + fields[-1]).isdigit():
            skipped.append((f"{path}:{number}", "a line is name, number, number or name, number, name, number"))
            continue
        other = fields[0] if len(fields) == 3 else fields[2]
        pairs.append((_lfw_photo(root, fields[0], fields[1]), _lfw_photo(root, other, fields[-1]), len(fields) == 3))
    return pairs, skipped


def _lfw_photo(root, name, number):
    stem = os.path.join(root, name, f"{name}_{int(number):04d}")
    return next((stem + ending for ending in EXTENSIONS if os.path.exists(stem + ending)), stem + EXTENSIONS[0])


def cfp(path, root, kind):
    """CFP's folder Protocol (path): frontal with frontal (kind 'FF') or profile photos ('FP'), ten splits.

    The photos' paths in it start from the folder itself, or from `root` where that is given.
    """
    lists = [_cfp_list(path, name, root) for name in ("F", kind[1])]
    pairs, skipped = [], []
    for split in sorted(os.listdir(_existing(os.path.join(path, "Split", kind)))):
        for name, same in (("same.txt", True), ("diff.txt", False)):
            file = os.path.join(path, "Split", kind, split, name)
            for number, line in _lines(file):
                found = [photos.get(field.strip()) for photos, field in zip(lists, line.split(","))]
                if len(found) == 2 and all(found):
                    pairs.append((*found, same))
                else:
                    skipped.append((f"{file}:{number}", "a line is two numbers of photos, with a comma between"))
    return pairs, skipped


def _cfp_list(path, name, root):
    """Path by number, as text."""
    rows = (line.split(None, 1) for _, line in _lines(os.path.join(path, f"Pair_list_{name}.txt")))
    return {row[0]: os.path.normpath(os.path.join(root or path, row[1])) for row in rows if len(row) == 2}


def plain(path, root):
    """Lines 'path path same' (1 or 0) with tabs, commas or spaces between, as for AgeDB-30; csv may have a title."""
    pairs, skipped = [], []
    for number, line in _lines(path):
        fields = [field.strip() for field in _split(line)]
        if len(fields) == 3 and fields[2].lower() in FLAGS and all(fields):
            pairs.append((os.path.join(root, fields[0]), os.path.join(root, fields[1]), FLAGS[fields[2].lower()]))
        elif number > 1 or "," not in line:
            skipped.append((f"{path}:{number}", "a line is path, path and 1 (one person) or 0"))
    return pairs, skipped


def _split(line):
    if "\t" in line:
        return line.split("\t")
    return next(csv.reader([line])) if "," in line else line.split()


def _lines(path):
    """Numbers, from 1, and texts of the lines that are not empty."""
    try:
        with open_text(path) as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}") from error
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def _existing(folder):
    if not os.path.isdir(folder):
        raise UserError(f"{folder} does not exist: give CFP's folder Protocol")
    return folder
