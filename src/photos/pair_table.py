"""The table of a verification set's pairs: which photos they are, of whom, and in which group.

A set NAME.bin holds images and flags only. `insightface-make-pairs` writes NAME-pairs.csv next to it, with a title and
a row for each pair: one, other, same (1 or 0), identity_one, identity_other, group. `insightface-build-set --hold-out`
writes NAME.csv without a title: one, other, same; there the folder of a photo is its identity.
"""

from __future__ import annotations

import csv
import os
from itertools import islice
from typing import Iterable, NamedTuple, Sequence

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.files.atomic import atomic_path
from insightface_mx.photos.lists import read_lines, write_text

TITLE = ("one", "other", "same", "identity_one", "identity_other", "group")
_ENDINGS = ("-pairs.csv", ".csv")  # behind NAME
_FLAGS = {"1": True, "0": False}


class PairTable(NamedTuple):
    """What is known of n pairs.

    Attributes:
        path: The table.
        names: The photos of each pair.
        identities: (n, 2) names of the identities; None: not known.
        groups: (n,) the group of each pair; None: there are none.
    """

    path: str
    names: list[tuple[str, str]]
    identities: np.ndarray | None
    groups: np.ndarray | None


def write_table(path: str, rows: Iterable[Sequence[object]]) -> None:
    """Write a table with its title, completely or not at all; rows: as TITLE says."""
    with atomic_path(path) as temporary, write_text(temporary) as file:
        writer = csv.writer(file)
        writer.writerow(TITLE)
        writer.writerows(rows)


def table_path(bin_path: str) -> str:
    """Return where the table of a set NAME.bin is written."""
    return os.path.splitext(bin_path)[0] + _ENDINGS[0]


def find_table(bin_path: str, issame: Sequence[bool]) -> tuple[PairTable | None, str]:
    """Return the table of a set NAME.bin, or None and the reason.

    Args:
        bin_path: The set.
        issame: Its flags; those of the table must be the same.
    """
    stem = os.path.splitext(bin_path)[0]
    path = next((stem + ending for ending in _ENDINGS if os.path.isfile(stem + ending)), None)
    if path is None:
        return None, f"no {stem}{_ENDINGS[0]} names the identities"
    try:
        rows = _rows(path, len(issame))
    except (OSError, UserError, csv.Error) as error:
        return None, f"{path} cannot be read: {error}"
    if [_FLAGS.get(row[2]) for row in rows] != list(map(bool, issame)):
        return None, f"{path} lists other pairs than the set"
    identities = find_identities(rows)
    groups = np.array([row[5] for row in rows]) if any(row[5] for row in rows) else None
    reason = "" if identities is not None else f"{path} does not name the identities"
    return PairTable(path, [(row[0], row[1]) for row in rows], identities, groups), reason


def _rows(path: str, count: int) -> list[list[str]]:
    """Read at most `count` rows and one more, each as TITLE says; what is missing is ''."""
    rows = [row for row in islice(csv.reader(read_lines(path)), count + 2) if row]
    if rows and rows[0] == list(TITLE):
        rows = rows[1:]
    return [(row + [""] * len(TITLE))[: len(TITLE)] for row in rows]


def find_identities(rows: Sequence[Sequence[object]]) -> np.ndarray | None:
    """Return the identities of pairs, (n, 2), from their columns or from the folders of the photos.

    Args:
        rows: As TITLE says.

    Returns:
        None where some are not named, or contradict the flags.
    """
    issame = np.array([row[2] in (True, "1") for row in rows])
    stated = np.array([row[3:5] for row in rows], str)
    folders = np.array([[os.path.basename(os.path.dirname(str(name))) for name in row[:2]] for row in rows])
    for names in (stated, folders):
        if (names != "").all() and np.array_equal(names[:, 0] == names[:, 1], issame):
            return names
    return None
