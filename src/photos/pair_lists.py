"""Lists of pairs as the verification sets publish them, in the list's order."""

from __future__ import annotations

import csv
import glob
import os
import re
from typing import NamedTuple, Sequence, TypeVar

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.formats.mat_file import read_splits
from insightface_mx.photos.image_files import EXTENSIONS, is_image
from insightface_mx.photos.lists import Skipped, read_lines
from insightface_mx.photos.pair_table import find_identities

FORMATS = ("lfw", "cfp-ff", "cfp-fp", "plain", "calfw", "cplfw", "agedb", "rfw")
FOLDS = 10
Entry = TypeVar("Entry")

_RFW = "_pairs.txt"  # behind the name of a group

_SAME, _DIFFERENT = ("1", "+1", "1.0", "true"), ("0", "-1", "0.0", "-1.0", "false")
FLAGS = {**dict.fromkeys(_SAME, True), **dict.fromkeys(_DIFFERENT, False)}
_DIGITS = (4, 1, 2, 3, 5, 6)  # of a photo's number in its file's name, in LFW 4


class Pair(NamedTuple):
    """The paths of two photos, whether they show the same identity, and where they are known identities and group."""

    one: str
    other: str
    same: bool
    identity_one: str = ""
    identity_other: str = ""
    group: str = ""


def read(list_format: str, path: str, root: str | None) -> tuple[list[Pair], Skipped]:
    """Read a list of pairs.

    Args:
        list_format: One of FORMATS.
        path: The list; for CFP its folder Protocol, for RFW its folder of lists.
        root: Folder that the photos' paths start from; None: the list's own.

    Returns:
        The pairs, and what is left out: place in the list, and the reason.

    Raises:
        UserError: The list cannot be read.
    """
    if list_format.startswith("cfp-"):
        return cfp(path, path if root is None else root, list_format[-2:].upper())
    if list_format == "rfw":
        return rfw(path, root)
    return _READERS[list_format](path, os.path.dirname(path) if root is None else root)


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
        pairs.append(Pair(one_path, other_path, fields[0] == other, fields[0], other))
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
                    people = (os.path.basename(os.path.dirname(os.path.dirname(photo))) for photo in found)
                    pairs.append(Pair(found[0], found[1], same, *people))
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
            pairs.append(Pair(one, other, FLAGS[fields[2].lower()], *map(_agedb_identity, (one, other))))
        elif not (number == 1 and "," in line and _is_title(fields)):
            skipped.append((f"{path}:{number}", "a line is path, path and 1 (the same identity), 0 or -1"))
    return pairs, skipped


def two_lines(path: str, root: str) -> tuple[list[Pair], Skipped]:
    """Read CALFW's and CPLFW's lists: two lines 'FILE label' for each pair, label 0 for different identities.

    In CALFW other labels are the number of the fold. The files hold all genuine pairs and then all others, so they are
    put in ten folds with as many of both. A file's name is NAME_0001.jpg.
    """
    pairs: list[Pair] = []
    skipped: Skipped = []
    lines = _lines(path)
    for (number, first), (_, second) in zip(lines[::2], [*lines[1::2], (0, "")]):
        fields = [line.rsplit(None, 1) for line in (first, second)]
        labels = {part[1] == "0" for part in fields if len(part) == 2 and part[1].isdecimal()}
        if any(len(part) != 2 or not part[1].isdecimal() for part in fields) or len(labels) != 1:
            reason = "a pair is two lines of a file and a label: 0 in both (different identities), or in neither"
            skipped.append((f"{path}:{number}", reason))
            continue
        one, other = (part[0] for part in fields)
        people = (re.sub(r"_\d+$", "", os.path.splitext(os.path.basename(name))[0]) for name in (one, other))
        pairs.append(Pair(os.path.join(root, one), os.path.join(root, other), labels == {False}, *people))
    return in_folds(pairs), skipped


def rfw(path: str, root: str | None) -> tuple[list[Pair], Skipped]:
    """Read RFW's lists, one for each group, in LFW's form; a fold of ten has pairs of every group.

    Args:
        path: The folder of GROUP/GROUP_pairs.txt or GROUP_pairs.txt, or one of these files.
        root: Folder of the folders GROUP; None: the folder data next to a folder txts, otherwise the lists' own.
    """
    is_file = os.path.isfile(path)
    folder = os.path.dirname(os.path.dirname(os.path.abspath(path))) if is_file else path
    found = [path] if is_file else sorted(glob.glob(os.path.join(glob.escape(path), "**", f"*{_RFW}"), recursive=True))
    if not found:
        raise UserError(f"{path} holds no GROUP{_RFW} or GROUP/GROUP{_RFW}: give RFW's folder txts")
    if root is None:
        data = os.path.join(os.path.dirname(os.path.abspath(folder)), "data")
        root = data if os.path.isdir(data) else folder
    folds: list[list[Pair]] = [[] for _ in range(FOLDS)]
    skipped: Skipped = []
    for file in found:
        group = os.path.basename(file)[: -len(_RFW)]
        pairs, problems = lfw(file, os.path.join(root, group))
        skipped += problems
        for fold, part in zip(folds, split(in_folds([pair._replace(group=group) for pair in pairs]))):
            fold += part
    return [pair for fold in folds for pair in fold], skipped


def agedb(path: str, root: str) -> tuple[list[Pair], Skipped]:
    """Read AgeDB's .mat file: splits, each of two lists of files and a list of labels, 1 or -1."""
    pairs = [
        Pair(_photo(root, one), _photo(root, other), same, *map(_agedb_identity, (one, other)))
        for one, other, same in read_splits(path)
    ]
    return pairs, []


def _photo(root: str, name: str) -> str:
    """Return the path of a photo whose name may lack its ending."""
    path = os.path.join(root, name)
    return path if is_image(name) else next((path + end for end in EXTENSIONS if os.path.exists(path + end)), path)


def _agedb_identity(path: str) -> str:
    """Return the name in number_name_age_sex.jpg, '' where a file is called otherwise."""
    found = re.fullmatch(r"\d+_(.+)_\d+_[mf]", os.path.splitext(os.path.basename(path))[0])
    return found.group(1) if found else ""


def split(pairs: Sequence[Entry]) -> list[list[Entry]]:
    """Split pairs, or what belongs to them, in FOLDS parts as tests do: in their order, the first ones the longest."""
    size, longer = divmod(len(pairs), FOLDS)
    starts = [fold * size + min(fold, longer) for fold in range(FOLDS + 1)]
    return [list(pairs[start:end]) for start, end in zip(starts, starts[1:])]


def in_folds(pairs: Sequence[Pair]) -> list[Pair]:
    """Put pairs in FOLDS folds, each with a tenth of the genuine pairs and a tenth of the others, in their order."""
    kinds = ([pair for pair in pairs if pair.same is same] for same in (True, False))
    return [pair for parts in zip(*map(split, kinds)) for part in parts for pair in part]


def fold_problems(pairs: Sequence[Pair]) -> list[str]:
    """Say what is wrong with the ten folds that a test makes of pairs: one kind only, identities in several folds."""
    if len(pairs) < FOLDS:
        return []
    problems = []
    one_kind = [number for number, fold in enumerate(split(pairs), 1) if len({pair.same for pair in fold}) == 1]
    if one_kind:
        numbers = ", ".join(map(str, one_kind))
        problems.append(f"folds {numbers} of {FOLDS} hold pairs of one kind only: every fold needs both")
    identities = find_identities(pairs)
    if identities is not None:
        seen: dict[str, set[int]] = {}
        for index, fold in enumerate(split(np.arange(len(pairs)).tolist())):
            for name in identities[fold].ravel().tolist():
                seen.setdefault(name, set()).add(index)
        shared = sum(len(of_name) > 1 for of_name in seen.values())
        if shared:
            problems.append(
                f"{shared} of {len(seen)} identities are in several of the {FOLDS} folds: the threshold of a fold is "
                "chosen on identities that it tests, so that the accuracy may be too high"
            )
    return problems


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


_READERS = {"lfw": lfw, "plain": plain, "calfw": two_lines, "cplfw": two_lines, "agedb": agedb}
